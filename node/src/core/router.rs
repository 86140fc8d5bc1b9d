//! Where a stanza goes. The one place that decides it, by the destination only. *Pure.*

use crosstalk_link_local::instance::{Instance, LINK_DOMAIN};
use crosstalk_overlay::id::{UserId, XID_DOMAIN};
use jid::{BareJid, Jid};

use crate::xmpp::Condition;

use super::Core;

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// This node itself.
    Here,
    /// An account of this node.
    Local(UserId),
    /// A user of another node.
    Overlay(UserId),
    /// A name that nobody here has met, of a domain whose authority is known.
    Name(BareJid),
    /// Somebody on the link who is known by XEP-0174 only. Nothing but what local users send may go there, and nothing
    /// that comes from there goes anywhere but to local users.
    Link(Instance),
    /// Somebody outside the overlay, or a server there: by the server of the sender's domain, if it has a way.
    Outside,
    /// Nobody; the sender is told why.
    Refuse(Condition),
}

impl Core {
    /// Decides where a stanza for `to` goes, whoever sent it:
    ///
    /// | destination | route |
    /// | --- | --- |
    /// | `id.internal`, the node's domain, that of an account here, `localhost`, the directory of a domain of accounts here | here |
    /// | `<escaped instance>@link.internal` of somebody who is seen | link |
    /// | any other `NAME@link.internal` | refused: `recipient-unavailable` |
    /// | any address of an account of this node | local |
    /// | `<xid>@id.internal`, or a certified name of which the user key is known | overlay |
    /// | any other name of a domain whose authority is known, and not this node's own | name |
    /// | `NAME@id.internal` or `NAME@own-domain` that is no account | refused: `item-not-found` |
    /// | a domain without a name before it that the overlay knows | refused: `remote-server-not-found` |
    /// | anything else | outside |
    pub(crate) fn route(&self, to: &Jid) -> Route {
        let domain = to.domain().as_str();
        let own = self.is_own_domain(domain);
        let Some(node) = to.node() else {
            return match domain {
                _ if own || self.is_domain_of_accounts(domain) || self.is_directory(domain) => Route::Here,
                _ if is_link_domain(domain) || self.overlay.is_domain_of_names(domain) => {
                    Route::Refuse(Condition::RemoteServerNotFound)
                }
                _ => Route::Outside,
            };
        };
        let bare = to.to_bare();
        if is_link_domain(domain) {
            let instance = self.link.instance_at(&bare).cloned();
            return instance.map_or(Route::Refuse(Condition::RecipientUnavailable), Route::Link);
        }
        if let Some(user) = self.accounts.by_address(bare.as_str()) {
            return Route::Local(user);
        }
        if domain == XID_DOMAIN
            && let Some(user) = UserId::from_xid(node.as_str())
        {
            return Route::Overlay(user);
        }
        match self.overlay.user_by_name(bare.as_str()) {
            Some(user) if self.accounts.contains(&user) => Route::Local(user),
            Some(user) => Route::Overlay(user),
            None if own => Route::Refuse(Condition::ItemNotFound),
            None if self.overlay.is_domain_of_names(domain) => Route::Name(bare),
            None => Route::Outside,
        }
    }

    /// Whether a domain is this node's.
    pub(crate) fn is_own_domain(&self, domain: &str) -> bool {
        domain == XID_DOMAIN
            || domain == "localhost"
            || self.settings.domain.as_ref().is_some_and(|(own, _)| own == domain)
    }
}

/// Whether a domain is that of people known by XEP-0174 only.
pub(crate) fn is_link_domain(domain: &str) -> bool {
    domain == LINK_DOMAIN
}

/// Whether a bare address is that of somebody known by XEP-0174 only, seen or not.
pub(crate) fn is_link_address(bare: &str) -> bool {
    bare.rsplit_once('@').is_some_and(|(_, domain)| is_link_domain(domain))
}
