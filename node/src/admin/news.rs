//! What is heard of the server of a domain after the start: the core is told.

use tokio::sync::mpsc;

use super::service::{Service, done};
use crate::authority::News;
use crate::core::admin::Command;

/// Tells the core until the server has ended.
pub async fn hear(mut news: mpsc::Receiver<News>, service: Service) {
    while let Some(news) = news.recv().await {
        let kept = match news {
            News::Serves(domain, authority) => service.serve(domain, authority).await,
            News::Revoked(revocations) => done(service.ask(Command::AddRevocations(revocations)).await),
        };
        if let Err(error) = kept {
            tracing::warn!("what the server of the domain says is not kept: {error}");
        }
    }
}
