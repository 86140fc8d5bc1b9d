//! A password that its user has changed on a laptop follows to the server (`overlay/PROTOCOL.md` §12): old and new take
//! each other's place in one commit, with the user key sealed under each.

use crosstalk_overlay::enrol::{
    Answer as Said, Change as Begin, Changed, MOST_FOLLOWED, PasswordOf, Registering, Why, permits,
};
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::time::DAY;
use crosstalk_storage::tree::authority::{Member, MemberState};

use super::counter::{MAX_SEALED, Stop};
use super::database::Change;
use super::office::{Office, OfficeError};
use super::opaque::Server;

/// Where clocks decide, a change that claims to be made later than this from now is none: later ones would never count.
const AHEAD: u64 = 2 * DAY;

impl Office {
    /// A device begins.
    pub(super) fn change_password(&mut self, node: NodeId, ask: &Begin) -> Result<Said, Stop> {
        let (_, _, name) = self.lists.user_of(&self.database, node, ask.session, self.now().wall)?;
        let response = self.opaque.respond(&ask.request, &self.address(&name))?;
        Ok(Said::Registering(Registering { response }))
    }

    /// And ends. One counts that was made by somebody who knew of the one that counted; of two that were made apart it is the
    /// one that came first, and the other laptop is told. The same one again is answered alike.
    pub(super) fn password_changed(&mut self, node: NodeId, ask: &Changed) -> Result<Said, Stop> {
        let (user, device, name) = self.lists.user_of(&self.database, node, ask.session, self.now().wall)?;
        let member = self.database.member(&name)?.filter(|member| member.user == user.as_bytes());
        let member = member.filter(|member| member.state() == MemberState::Enrolled);
        let member = member.ok_or(Stop::Why(Why::Password))?;
        let (address, authority) = (self.address(&name), self.identity()?);
        let change = (ask.at, &ask.follows[..]);
        let permitted = permits(&user, &authority, &address, &device, change, &ask.permit);
        let early = ask.follows.is_empty() && ask.at > self.now().wall.saturating_add(AHEAD);
        let possible = ask.sealed.len() <= MAX_SEALED && ask.follows.len() <= MOST_FOLLOWED;
        if !permitted || early || !possible {
            return Err(Stop::Why(Why::Policy));
        }
        let counts = match ask.follows.is_empty() {
            true => member.changed < ask.at,
            false => member.changed != ask.at && ask.follows.contains(&member.changed),
        };
        if !counts {
            return Ok(Said::PasswordOf(PasswordOf { at: member.changed }));
        }
        let mut told = self.line("password changed", &name);
        (told.user, told.node) = (member.user.clone(), node.as_bytes().to_vec());
        let member = Member {
            password: Server::record(&ask.upload)?,
            sealed: ask.sealed.clone(),
            stretched: true,
            changed: ask.at,
            ..member
        };
        self.database.commit(Change::told(told).member(&name, member)).map_err(OfficeError::from)?;
        Ok(Said::PasswordOf(PasswordOf { at: ask.at }))
    }
}
