//! TLS to PostgreSQL by rustls, as tokio-postgres wants it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

/// Makes TLS; without a configuration none is made, and none is asked for.
pub(super) struct Tls(pub(super) Option<Arc<ClientConfig>>);

/// TLS to one host.
pub(super) struct ToHost(Option<(TlsConnector, ServerName<'static>)>);

/// Why a certificate is not believed, for whoever has to put that right.
fn told(error: io::Error, name: &ServerName<'_>) -> io::Error {
    let Some(rustls::Error::InvalidCertificate(why)) = error.get_ref().and_then(|error| error.downcast_ref())
    else {
        return error;
    };
    let name = name.to_str();
    io::Error::other(match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not signed by any of those in `database_ca`".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is not for {name}, which `database` in [authority] names")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has ended, or the clock of this machine is wrong".to_owned()
        }
        other => format!("its certificate is not believed: {other}"),
    })
}

/// A stream inside TLS.
pub(super) struct Inside<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Inside<S>;
    type TlsConnect = ToHost;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<ToHost, io::Error> {
        let Some(config) = &self.0 else { return Ok(ToHost(None)) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(ToHost(Some((TlsConnector::from(Arc::clone(config)), name))))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for ToHost {
    type Stream = Inside<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Inside<S>, io::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let (connector, name) = self.0.ok_or_else(|| io::Error::other("no certificates are known"))?;
            Ok(Inside(connector.connect(name.clone(), stream).await.map_err(|error| told(error, &name))?))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Inside<S> {
    /// None: the certificate itself is verified.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Inside<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Inside<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
