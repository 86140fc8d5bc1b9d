//! Owns the entry point of `crosstalk-load`; all else is in the library.

use clap::Parser;
use crosstalk_simulations::load::{Options, run};
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = run(&options).map_err(|error| error.to_string()).and_then(|report| {
        let text = if options.json {
            serde_json::to_string(&report).map_err(|error| error.to_string())? + "\n"
        } else {
            report.to_string()
        };
        io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when even this cannot be written.
            let _ = writeln!(io::stderr(), "crosstalk-load: {error}");
            ExitCode::FAILURE
        }
    }
}
