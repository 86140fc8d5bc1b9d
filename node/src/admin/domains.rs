//! What a person says of domains of others, or has their web servers asked for.

use std::path::PathBuf;

use super::service::{Service, ServiceError};
use super::{Request, Response};
use crate::config::ConfigError;
use crate::core::admin::{Command, Refused};
use crate::core::domains::DomainCommand;
use crate::well_known::{self, Said};

impl Service {
    /// With certificates of authorities, in a file, that are believed of web servers beside the system's.
    #[must_use]
    pub fn with_web(mut self, ca_file: Option<PathBuf>) -> Self {
        self.ca_file = ca_file;
        self
    }

    /// What the web server of a domain says of its key.
    pub(super) async fn fetch_domain(&self, domain: &str) -> Result<Said, ServiceError> {
        check(domain)?;
        let said = well_known::fetch(domain, self.ca_file.clone()).await;
        said.map_err(|error| Refused::Domain(error.to_string()).into())
    }

    /// A request about domains of others.
    pub(super) async fn domain(&self, request: Request) -> Result<Response, ServiceError> {
        let command = match request {
            Request::TrustDomain { domain, key } => {
                check(&domain)?;
                let key = well_known::parse_key(&key).ok_or_else(|| {
                    let text = "that is no key: it has 64 digits; `crosstalk authority show` on the domain's server prints it";
                    Refused::Domain(text.to_owned())
                })?;
                DomainCommand::Trust { domain, key, rotations: Vec::new(), by_web: false }
            }
            Request::FetchDomain { domain } => {
                let Said { key, rotations } = self.fetch_domain(&domain).await?;
                DomainCommand::Trust { domain, key, rotations, by_web: true }
            }
            Request::ForgetDomain { domain } => DomainCommand::Forget(domain),
            _ => DomainCommand::List,
        };
        self.ask(Command::Domain(command)).await.map(Response::Reply)
    }
}

/// Checks a domain that was typed.
///
/// # Errors
/// Says why it is none.
pub(crate) fn check(domain: &str) -> Result<(), Refused> {
    crate::config::check_domain(domain).map_err(|error| {
        // Of the settings' words only what is said of the domain itself.
        Refused::Domain(match error {
            ConfigError::Value { what, .. } => what,
            other => other.to_string(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_no_setting() {
        let text = check("School Example").expect_err("no domain").to_string();
        assert!(text.contains("School Example") && !text.contains("setting"), "{text}");
        assert!(check("school.example").is_ok());
    }
}
