//! Devices of an account: the user key is opened here, for the moment in which it certifies or revokes one.

use crosstalk_overlay::core::JoinFailure;
use crosstalk_overlay::id::{AuthorityId, DeviceId, UserId, XID_DOMAIN};

use super::enrol::is_name_of;
use super::service::{Service, ServiceError, done, unexpected};
use super::{Opener, Response, Secret};
use crate::accounts::Accounts;
use crate::core::admin::{Command, Refused, Reply};
use crate::core::devices::DeviceView;

/// Shortest beginning of a device's key that names it.
const SHORTEST: usize = 4;

impl Service {
    /// Makes a code for a further device. The password is asked for so that nobody does it for somebody else; a code for
    /// a user key that no password opens would be of no use either.
    pub(super) async fn add_device(
        &self,
        account: String,
        password: Secret,
    ) -> Result<Response, ServiceError> {
        self.open(&account, Some(Opener::Password(password))).await?;
        match self.ask(Command::OfferDevice(account)).await? {
            reply @ Reply::Offered(_) => Ok(Response::Reply(reply)),
            reply => Err(unexpected(reply)),
        }
    }

    /// Becomes a device of the account behind a code: that node gives the user key as it is sealed, and the password opens
    /// it to certify the device that is made here.
    pub(super) async fn join(
        &self,
        code: Secret,
        password: Secret,
        name: Option<String>,
    ) -> Result<Response, ServiceError> {
        let name = name.map(|name| Accounts::name(&name)).transpose()?;
        let given = match self.ask(Command::Join(code)).await? {
            Reply::Joined(given) => given,
            reply => return Err(unexpected(reply)),
        };
        let user = UserId::from_bytes(given.user);
        let xid = format!("{}@{XID_DOMAIN}", user.xid());
        if let Reply::Account(view) = self.ask(Command::ShowAccount(xid)).await? {
            let text = format!("this node is a device of that account already, as {}", view.login);
            return Err(Refused::NotJoined(text).into());
        }
        let domain = match &given.home {
            Some((domain, _)) if name.as_ref().is_some_and(|name| *name != given.name) => {
                let text = format!("this account is {}@{domain} everywhere: leave --name away", given.name);
                return Err(Refused::NotJoined(text).into());
            }
            Some((domain, home)) => {
                let address = format!("{}@{domain}", given.name);
                if !is_name_of(&given.name_cert, &address, &AuthorityId::from_bytes(home.authority), &user) {
                    return Err(Refused::NotJoined(JoinFailure::Broken.to_string()).into());
                }
                domain.as_str()
            }
            None => self.accounts().domain(),
        };
        let login = format!("{}@{domain}", name.as_ref().unwrap_or(&given.name));
        if let Reply::Account(_) = self.ask(Command::ShowAccount(login.clone())).await? {
            let text = format!(
                "this node has another account {login}: say --name NAME to log in here by another name, or remove that \
                 account first; the code can be used again on this node until it ends"
            );
            return Err(Refused::NotJoined(text).into());
        }
        let password = password.into_inner();
        let home = given.home.clone().map(|(_, home)| home);
        let account =
            self.laborious(move |accounts| accounts.join(&given, name.as_deref(), &password)).await?;
        let account = Box::new(account);
        let add = match home {
            Some(home) => Command::AddEnrolled { account, home },
            None => Command::AddAccount(account),
        };
        if let Err(error) = done(self.ask(add).await) {
            self.laborious(move |accounts| accounts.forget(user)).await?;
            return Err(error);
        }
        Ok(Response::Reply(Reply::Account(self.account(login).await?)))
    }

    /// Revokes a device, which has to be told by its name or the beginning of its key.
    pub(super) async fn revoke_device(
        &self,
        account: String,
        device: &str,
        password: Secret,
    ) -> Result<Response, ServiceError> {
        let devices = match self.ask(Command::Devices(account.clone())).await? {
            Reply::Devices(devices) => devices,
            reply => return Err(unexpected(reply)),
        };
        let device = meant(&devices, device)?;
        let (user, Some(key)) = self.open(&account, Some(Opener::Password(password))).await? else {
            return Err(ServiceError::Confused);
        };
        let revocation = Accounts::revocation(user, &key, device)?;
        let reply = self.ask(Command::RevokeDevice { account, revocation }).await?;
        done(Ok(reply)).map(|()| Response::Reply(Reply::Done))
    }
}

/// The one device that is meant.
fn meant(devices: &[DeviceView], said: &str) -> Result<DeviceId, ServiceError> {
    let named: Vec<&DeviceView> = devices.iter().filter(|device| device.name == said).collect();
    let by_key = || devices.iter().filter(|device| said.len() >= SHORTEST && device.device.starts_with(said));
    let meant = if named.is_empty() { by_key().collect() } else { named };
    match meant.as_slice() {
        [one] if one.here => {
            let text = "this is the device that you are at: remove the account here with `crosstalk account remove`, and \
                        revoke this device from another one";
            Err(Refused::NotJoined(text.to_owned()).into())
        }
        [one] => DeviceId::from_hex(&one.device).ok_or(ServiceError::Confused),
        [] => {
            let text = format!("there is no device {said}: `crosstalk device list` shows those that are");
            Err(Refused::NotJoined(text).into())
        }
        _ => {
            let text = format!("several devices are called {said}: say the beginning of the key of one");
            Err(Refused::NotJoined(text).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(key: u8, name: &str, here: bool) -> DeviceView {
        let device = DeviceId::from_bytes([key; 32]).to_hex();
        DeviceView { device, name: name.to_owned(), here, live: false, said: 0, until: 0 }
    }

    #[test]
    fn a_device_is_meant_by_its_name_or_its_key() {
        let devices = [device(1, "desk", true), device(2, "couch", false), device(3, "couch", false)];
        let of = |said: &str| meant(&devices, said).ok();
        assert_eq!(of("0202"), Some(DeviceId::from_bytes([2; 32])));
        assert_eq!(of("couch"), None);
        assert_eq!(of("desk"), None);
        assert_eq!(of("02"), None);
        assert_eq!(of(""), None);
        assert_eq!(meant(&devices[..2], "couch").ok(), Some(DeviceId::from_bytes([2; 32])));
    }
}
