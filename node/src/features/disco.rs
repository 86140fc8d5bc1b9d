//! XEP-0030: Service Discovery, generated from the table of features. *Pure.*

use std::collections::BTreeSet;

use crate::core::Core;
use crate::xmpp::{Condition, Element, ns};

use super::{Answer, Feature, Handled, NOTHING, Origin, Request, TABLE, Target, caps, commands};

pub(super) const FEATURE: Feature = Feature {
    iq: &[("query", ns::DISCO_INFO), ("query", ns::DISCO_ITEMS)],
    handle,
    node: &[ns::DISCO_INFO, ns::DISCO_ITEMS],
    account: &[ns::DISCO_INFO, ns::DISCO_ITEMS],
    directory: &[ns::DISCO_INFO, ns::DISCO_ITEMS],
    ..NOTHING
};

fn handle(core: &mut Core, request: &Request<'_>) -> Handled {
    if request.is_set() {
        return Err(Condition::NotAllowed.into());
    }
    let node = request.payload.get_attr("node");
    let info = request.payload.ns() == ns::DISCO_INFO;
    if let Target::Account(user) = request.target {
        let stranger = request.owner(core).is_err();
        if stranger && !core.may_see(user, request) {
            return Err(Condition::ServiceUnavailable.into());
        }
    }
    match (info, node) {
        // What a command is called, and the list of them.
        (true, Some(of @ (commands::LISTING | commands::identity::NODE | ns::COMMANDS)))
            if request.target == Target::Node =>
        {
            let (kind, name) = match of {
                commands::LISTING => ("command-node", commands::NAME),
                commands::identity::NODE => ("command-node", commands::identity::NAME),
                _ => ("command-list", "Commands"),
            };
            let identity = Element::new("identity", ns::DISCO_INFO)
                .attr("category", "automation")
                .attr("type", kind)
                .attr("name", name);
            let feature = |var| Element::new("feature", ns::DISCO_INFO).attr("var", var);
            let query = Element::new("query", ns::DISCO_INFO).attr_opt("node", node).child(identity);
            Ok(Answer::Result(Some(query.child(feature(ns::COMMANDS)).child(feature(ns::DATA)))))
        }
        (true, Some(node)) if request.target == Target::Node && node != caps::node() => {
            Err(Condition::ItemNotFound.into())
        }
        (true, Some(_)) if request.target != Target::Node => Err(Condition::ItemNotFound.into()),
        (true, node) => Ok(Answer::Result(Some(info_query(request.target).attr_opt("node", node)))),
        (false, node) => {
            let query = Element::new("query", ns::DISCO_ITEMS).attr_opt("node", node);
            Ok(Answer::Result(Some(query.children_from(items(core, request, node)))))
        }
    }
}

/// Of the node: the directory that the asking account may search, and commands.
fn items(core: &Core, request: &Request<'_>, node: Option<&str>) -> Vec<Element> {
    let (Origin::Session(id), Target::Node) = (request.origin, request.target) else { return Vec::new() };
    let directory = core.session(id).and_then(|session| core.directory_of(&session.user));
    let item =
        |jid: &str, name: &str| Element::new("item", ns::DISCO_ITEMS).attr("jid", jid).attr("name", name);
    match (node, &request.iq.to) {
        (None, _) => directory.iter().map(|directory| item(directory, "Directory")).collect(),
        (Some(ns::COMMANDS), Some(here)) => {
            let listing = directory.map(|_| (commands::LISTING, commands::NAME));
            let all = listing.into_iter().chain([(commands::identity::NODE, commands::identity::NAME)]);
            all.map(|(node, name)| item(here.as_str(), name).attr("node", node)).collect()
        }
        (Some(_), _) => Vec::new(),
    }
}

/// Category, type and name of the identity.
pub(super) fn identity(target: Target) -> (&'static str, &'static str, &'static str) {
    match target {
        Target::Node => ("server", "im", "CrossTalk"),
        Target::Account(_) => ("account", "registered", ""),
        Target::Directory => ("directory", "user", "Directory"),
    }
}

/// Namespaces that are advertised, sorted.
pub(super) fn features(target: Target) -> BTreeSet<&'static str> {
    let of = |feature: &'static Feature| match target {
        Target::Node => feature.node,
        Target::Account(_) => feature.account,
        Target::Directory => feature.directory,
    };
    TABLE.iter().flat_map(of).copied().collect()
}

fn info_query(target: Target) -> Element {
    let (category, kind, name) = identity(target);
    let name = Some(name).filter(|name| !name.is_empty());
    let identity = Element::new("identity", ns::DISCO_INFO)
        .attr("category", category)
        .attr("type", kind)
        .attr_opt("name", name);
    let features = features(target);
    let features = features.into_iter().map(|var| Element::new("feature", ns::DISCO_INFO).attr("var", var));
    Element::new("query", ns::DISCO_INFO).child(identity).children_from(features)
}
