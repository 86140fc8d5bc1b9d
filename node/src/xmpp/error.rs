//! Stanza errors (RFC 6120 §8.3) and stream errors (RFC 6120 §4.9). *Pure.*

use super::element::Element;
use super::ns;

/// What the sender may do about a stanza error (RFC 6120 §8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// Retry after providing credentials.
    Auth,
    /// Do not retry.
    Cancel,
    /// Retry after changing the data.
    Modify,
    /// Retry after waiting.
    Wait,
}

impl ErrorType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }
}

macro_rules! conditions {
    ($(#[$doc:meta])* $enum:ident { $($variant:ident = $name:literal $(, $type:ident)?;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $enum { $(#[doc = concat!("`", $name, "`")] $variant,)* }
        impl $enum {
            /// The element name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
            /// The condition with this element name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

conditions! {
    /// Defined conditions of a stanza error (RFC 6120 §8.3.3).
    Condition {
        BadRequest = "bad-request";
        Conflict = "conflict";
        FeatureNotImplemented = "feature-not-implemented";
        Forbidden = "forbidden";
        Gone = "gone";
        InternalServerError = "internal-server-error";
        ItemNotFound = "item-not-found";
        JidMalformed = "jid-malformed";
        NotAcceptable = "not-acceptable";
        NotAllowed = "not-allowed";
        NotAuthorized = "not-authorized";
        PolicyViolation = "policy-violation";
        RecipientUnavailable = "recipient-unavailable";
        RegistrationRequired = "registration-required";
        RemoteServerNotFound = "remote-server-not-found";
        RemoteServerTimeout = "remote-server-timeout";
        ResourceConstraint = "resource-constraint";
        ServiceUnavailable = "service-unavailable";
        SubscriptionRequired = "subscription-required";
        UndefinedCondition = "undefined-condition";
        UnexpectedRequest = "unexpected-request";
    }
}

impl Condition {
    /// The error type that RFC 6120 §8.3.3 gives for this condition.
    pub fn default_type(self) -> ErrorType {
        match self {
            Self::BadRequest | Self::JidMalformed | Self::NotAcceptable | Self::PolicyViolation => {
                ErrorType::Modify
            }
            Self::Forbidden
            | Self::NotAuthorized
            | Self::RegistrationRequired
            | Self::SubscriptionRequired => ErrorType::Auth,
            Self::RecipientUnavailable
            | Self::RemoteServerTimeout
            | Self::ResourceConstraint
            | Self::UnexpectedRequest => ErrorType::Wait,
            Self::Conflict
            | Self::FeatureNotImplemented
            | Self::Gone
            | Self::InternalServerError
            | Self::ItemNotFound
            | Self::NotAllowed
            | Self::RemoteServerNotFound
            | Self::ServiceUnavailable
            | Self::UndefinedCondition => ErrorType::Cancel,
        }
    }
}

/// Why a stanza could not be processed, as the sender will see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// What the sender may do.
    pub kind: ErrorType,
    /// Defined condition.
    pub condition: Condition,
    /// For a person: what was wrong and what to do.
    pub text: Option<String>,
    /// Application-specific condition.
    pub detail: Option<Box<Element>>,
}

impl StanzaError {
    /// An error with the condition's usual type and a sentence for a person.
    pub fn new(condition: Condition, text: impl Into<String>) -> Self {
        Self { kind: condition.default_type(), condition, text: Some(text.into()), detail: None }
    }

    /// An error that says no more than its condition.
    pub fn plain(condition: Condition) -> Self {
        Self { kind: condition.default_type(), condition, text: None, detail: None }
    }

    /// With another type than the usual one.
    #[must_use]
    pub fn with_type(mut self, kind: ErrorType) -> Self {
        self.kind = kind;
        self
    }

    /// With an application-specific condition.
    #[must_use]
    pub fn with_detail(mut self, detail: Element) -> Self {
        self.detail = Some(Box::new(detail));
        self
    }

    /// The `<error/>` element.
    pub fn to_element(&self) -> Element {
        let mut error = Element::new("error", ns::CLIENT)
            .attr("type", self.kind.as_str())
            .child(Element::new(self.condition.as_str(), ns::STANZAS));
        if let Some(text) = &self.text {
            error.push(Element::new("text", ns::STANZAS).text(text));
        }
        if let Some(detail) = &self.detail {
            error.push((**detail).clone());
        }
        error
    }
}

impl From<Condition> for StanzaError {
    fn from(condition: Condition) -> Self {
        Self::plain(condition)
    }
}

conditions! {
    /// Defined conditions of a stream error (RFC 6120 §4.9.3) that this node sends.
    StreamCondition {
        BadFormat = "bad-format";
        BadNamespacePrefix = "bad-namespace-prefix";
        Conflict = "conflict";
        ConnectionTimeout = "connection-timeout";
        HostUnknown = "host-unknown";
        InternalServerError = "internal-server-error";
        InvalidFrom = "invalid-from";
        InvalidNamespace = "invalid-namespace";
        InvalidXml = "invalid-xml";
        NotAuthorized = "not-authorized";
        NotWellFormed = "not-well-formed";
        PolicyViolation = "policy-violation";
        RemoteConnectionFailed = "remote-connection-failed";
        ResourceConstraint = "resource-constraint";
        RestrictedXml = "restricted-xml";
        SystemShutdown = "system-shutdown";
        UndefinedCondition = "undefined-condition";
        UnsupportedEncoding = "unsupported-encoding";
        UnsupportedStanzaType = "unsupported-stanza-type";
        UnsupportedVersion = "unsupported-version";
    }
}

/// Why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// Defined condition.
    pub condition: StreamCondition,
    /// For a person: what was wrong and what to do.
    pub text: String,
}

impl StreamError {
    /// A stream error with a sentence for a person.
    pub fn new(condition: StreamCondition, text: impl Into<String>) -> Self {
        Self { condition, text: text.into() }
    }

    /// `<stream:error>…</stream:error>` for an open stream that declared the `stream` prefix.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"<stream:error>".to_vec();
        Element::new(self.condition.as_str(), ns::STREAM_ERROR).write(&mut out, ns::CLIENT);
        if !self.text.is_empty() {
            Element::new("text", ns::STREAM_ERROR).text(&self.text).write(&mut out, ns::CLIENT);
        }
        out.extend_from_slice(b"</stream:error>");
        out
    }
}
