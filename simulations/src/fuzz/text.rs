//! Owns the target for what its user tells a node: the settings file.

use std::path::Path;

use crosstalk::config::{Config, ConfigError};

use super::bounded;

/// A settings file.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(bounded(data)) else { return };
    let read = |text: &str| Config::parse(text, Path::new("crosstalk.toml"));
    match read(text) {
        Ok(config) => {
            assert!(config.check().is_ok(), "accepted, and then not");
            let commented = read(&format!("# first\n{text}\n# last\n"));
            assert_eq!(commented.ok().as_ref(), Some(&config), "a comment changes a setting");
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            if let ConfigError::Line { line, .. } = error {
                let last = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
                assert!((1..=last).contains(&line), "line {line} of {last}");
            }
        }
    }
}
