//! `crosstalk lookup`: whom an address means in the hash table, question by question. *Pure.*

use crosstalk_overlay::core::{Lookup, Reach, Step, Subject, Target};
use crosstalk_overlay::dht::{Asked, Refused as NotCounted, Reply as Answered, Value};
use crosstalk_overlay::id::{UserId, XID_DOMAIN};
use crosstalk_overlay::record::{DevicePart, UserRecord};
use serde::{Deserialize, Serialize};

use super::Core;
use super::admin::{Refused, Reply};
use super::commands::bare;
use super::io::Output;

/// A look-up, for people and programs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LookupView {
    /// Self-certified address of who it is, if that is known.
    pub xid: Option<String>,
    /// How far the name is to be believed.
    pub tier: Option<String>,
    /// `live`, `known` or `unknown` to this node.
    pub reach: String,
    /// The questions that were asked. None: this node knows nobody to ask.
    pub steps: Vec<StepView>,
}

/// One question to the hash table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepView {
    /// What was asked for.
    pub what: String,
    /// The key, hexadecimal.
    pub key: String,
    /// Nodes that were asked.
    pub asked: u32,
    /// Those that answered.
    pub answered: u32,
    /// Those that did not.
    pub failed: u32,
    /// How long it took, milliseconds.
    pub millis: u64,
    /// How far it was to the first value that counts: 1 if a node that was known here gave it, one more for each that had to
    /// be named by another.
    pub hops: Option<u32>,
    /// The nodes that were asked, in this order.
    pub path: Vec<AskedView>,
    /// Distinct values.
    pub values: Vec<ValueView>,
}

/// A node that was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AskedView {
    /// Which.
    pub node: String,
    /// Who named it; nobody: it was known here.
    pub told_by: Option<String>,
    /// As for [`StepView::hops`].
    pub hops: u32,
    /// When it answered, milliseconds after the beginning.
    pub millis: u64,
    /// What it said.
    pub said: String,
}

/// A value that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ValueView {
    /// Its size.
    pub bytes: usize,
    /// Whether every signature fits.
    pub counts: bool,
    /// What it says, or why it does not count.
    pub says: Vec<String>,
}

impl Core {
    /// Starts a look-up; the answer to the request follows when it has ended.
    pub(super) fn look_up(&mut self, request: u64, address: &str) -> Result<(), Refused> {
        let target = self.target(address)?;
        self.overlay.look_up(request, &target, self.now);
        Ok(())
    }

    fn target(&self, address: &str) -> Result<Target, Refused> {
        if let Some(user) = UserId::from_xid(address) {
            return Ok(Target::User(user));
        }
        let jid = bare(address)?;
        let key = jid.node().filter(|_| jid.domain().as_str() == XID_DOMAIN);
        if let Some(user) = key.and_then(|node| UserId::from_xid(node.as_str())) {
            return Ok(Target::User(user));
        }
        let here = self.accounts.by_address(jid.as_str());
        Ok(here.map_or_else(|| Target::Name(jid.to_string()), Target::User))
    }

    pub(super) fn looked_up(&mut self, request: u64, lookup: &Lookup) {
        let user = lookup.user;
        let view = LookupView {
            xid: user.map(|user| format!("{}@{XID_DOMAIN}", user.xid())),
            tier: user.map(|user| self.tier_of(&user)),
            reach: match user.map_or(Reach::Unknown, |user| self.overlay.reach(&user)) {
                Reach::Unknown => "unknown",
                Reach::Known => "known",
                Reach::Live => "live",
            }
            .to_owned(),
            steps: lookup.steps.iter().map(step_view).collect(),
        };
        self.output(Output::Answer { request, reply: Box::new(Reply::Lookup(Box::new(view))) }, false);
    }
}

fn step_view(step: &Step) -> StepView {
    let what = match step.subject {
        Subject::Name(authority) => format!("name record of authority {authority}"),
        Subject::User(user) => format!("user record of {user}"),
        Subject::Presence(device) => format!("sealed presence of device {device}"),
    };
    let values = step.values.iter().map(|(bytes, value)| ValueView {
        bytes: *bytes,
        counts: value.is_ok(),
        says: says(value),
    });
    StepView {
        what,
        key: step.key.to_hex(),
        asked: step.trace.asked,
        answered: step.trace.answered,
        failed: step.trace.failed,
        millis: step.trace.millis,
        hops: step.trace.hops(),
        path: step.trace.path.iter().map(asked_view).collect(),
        values: values.collect(),
    }
}

fn asked_view(asked: &Asked) -> AskedView {
    let said = match asked.reply {
        Answered::Good => "has a value that counts".to_owned(),
        Answered::Bad => "gave a value that does NOT count".to_owned(),
        Answered::Closer(nodes) => format!("has none, named {nodes} nodes"),
        Answered::Nothing => "no answer".to_owned(),
    };
    AskedView {
        node: asked.node.to_string(),
        told_by: asked.told_by.map(|node| node.to_string()),
        hops: asked.hops,
        millis: asked.millis,
        said,
    }
}

fn says(value: &Result<Value, NotCounted>) -> Vec<String> {
    match value {
        Err(reason) => vec![reason.to_string()],
        Ok(Value::User(record)) => stolen(record).chain(devices(record)).chain(names(record)).collect(),
        Ok(Value::Name(cert)) => {
            vec![format!("{} is {}, serial {}, until {}", cert.address, cert.user, cert.serial, cert.expires)]
        }
        Ok(Value::Presence(sealed)) => {
            vec![format!("sealed at {}, counts until {}", sealed.at.millis, sealed.expires)]
        }
    }
}

fn stolen(record: &UserRecord) -> impl Iterator<Item = String> {
    let line = |since| format!("the user key was stolen: nothing by it counts since {since}");
    record.compromised().map(|void| line(void.since)).into_iter()
}

fn devices(record: &UserRecord) -> impl Iterator<Item = String> {
    let line = |part: &DevicePart| {
        let (cert, info) = (&part.cert, &part.info);
        format!(
            "device {}, certified until {}, {} sealing keys, said at {}",
            cert.device,
            cert.expires,
            info.sealing.len(),
            info.at.millis
        )
    };
    record.devices().values().map(line).collect::<Vec<_>>().into_iter()
}

fn names(record: &UserRecord) -> impl Iterator<Item = String> {
    let line = |name: &crosstalk_overlay::record::NameCert| {
        format!("named {} by authority {}, until {}", name.address, name.authority, name.expires)
    };
    record.names().values().map(|name| line(name)).collect::<Vec<_>>().into_iter()
}
