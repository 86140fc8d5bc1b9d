//! A laptop's login at the server of a domain, by OPAQUE over the password or over what is derived of it
//! (`overlay/PROTOCOL.md` §12): the user key comes sealed, or has to be made where the server has none of a user whom
//! another server had.

use crosstalk_overlay::core::Server;
use crosstalk_overlay::enrol::{
    self, Answer, Ask, Challenged, Enrolled, Login, Prove, Refused as No, Salted, Scheme, TOKEN, Why,
};
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::keys::UserKey;
use zeroize::Zeroizing;

use super::enrol::{Goal, Obtained, Present, failed, misunderstood, no, refused};
use super::service::{Service, ServiceError};
use crate::accounts::{AccountError, seal};
use crate::authority::derived::{self, Derived};
use crate::authority::opaque::{Account, ExportKey, LoginAttempt, OpaqueError};

/// Times that work is done for one login: it grows only while somebody else is guessing.
const WORKS: usize = 4;

/// What the server says to the begin of a login.
enum Begun {
    Challenged(NodeId, Challenged),
    /// Not over the password itself.
    Salted(Salted),
}

impl Service {
    /// Logs in; an `Err` of a wrong password says `wrong`.
    pub(super) async fn log_in(
        &self,
        goal: &Goal,
        password: Zeroizing<Vec<u8>>,
        wrong: &'static str,
        present: Option<&Present>,
    ) -> Result<Obtained, ServiceError> {
        let (mut secret, mut client_key) = (password.clone(), Derived::default());
        let mut begun = LoginAttempt::start(&secret).map_err(failed)?;
        let (node, challenged) = match self.begin_login(goal, &begun.request, false, wrong).await? {
            Begun::Challenged(node, challenged) => (node, challenged),
            Begun::Salted(salted) => {
                (secret, client_key) = self.derive(goal, password.clone(), salted).await?;
                begun = LoginAttempt::start(&secret).map_err(failed)?;
                match self.begin_login(goal, &begun.request, true, wrong).await? {
                    Begun::Challenged(node, challenged) => (node, challenged),
                    Begun::Salted(_) => return Err(misunderstood()),
                }
            }
        };
        let context = enrol::login_context(&self.node_id().await?, &node);
        let (address, identity) = (goal.address.clone(), goal.identity);
        let finished = self.laborious(move |_| {
            let account = Account { address: &address, authority: &identity };
            Ok(begun.finish(&secret, &challenged.response, account, &context))
        });
        let (proof, export) = match finished.await? {
            Ok(finished) => finished,
            Err(OpaqueError::Password) => return Err(refused(wrong.to_owned())),
            Err(other) => return Err(failed(other)),
        };
        let prove = Prove { login: challenged.login, proof, client_key: client_key.to_vec() };
        match self.ask_server(Server::At(node, Vec::new()), &Ask::Prove(prove)).await?.1 {
            Answer::Enrolled(enrolled) => {
                let key = self.opened(&enrolled, export, password).await?;
                Ok(Obtained { key, enrolled, recovery: None })
            }
            Answer::Admitted(admitted) => {
                let token: [u8; TOKEN] = admitted.token.try_into().map_err(|_| misunderstood())?;
                let obtained = self.register(goal, Zeroizing::new(token), password, present).await?;
                obtained.ok_or_else(misunderstood)
            }
            answer => Err(no(&answer, wrong)),
        }
    }

    /// What the server says, with work before it if the server wants some.
    async fn begin_login(
        &self,
        goal: &Goal,
        request: &[u8],
        derived: bool,
        wrong: &'static str,
    ) -> Result<Begun, ServiceError> {
        let mut nonce = 0;
        for _ in 0..WORKS {
            let (address, request) = (goal.address.clone(), request.to_vec());
            let ask = Ask::Login(Login { address, request, nonce, derived });
            match self.ask_server(goal.server.clone(), &ask).await? {
                (node, Answer::Challenged(challenged)) => return Ok(Begun::Challenged(node, challenged)),
                (_, Answer::Salted(salted)) => return Ok(Begun::Salted(salted)),
                (_, Answer::Refused(No { why, bits, challenge, .. })) if why == i32::from(Why::Work) => {
                    let worked = self.laborious(move |_| Ok(enrol::work(&challenge, bits)));
                    nonce = worked.await?.ok_or_else(misunderstood)?;
                }
                (_, answer) => return Err(no(&answer, wrong)),
            }
        }
        Err(refused(
            "many others are trying passwords for this name just now: try again in a while".to_owned(),
        ))
    }

    /// The secret in place of the password, and SCRAM's ClientKey if it is of that.
    async fn derive(
        &self,
        goal: &Goal,
        password: Zeroizing<Vec<u8>>,
        salted: Salted,
    ) -> Result<(Derived, Derived), ServiceError> {
        let (address, identity) = (goal.address.clone(), goal.identity);
        let derived = self.laborious(move |_| {
            let account = Account { address: &address, authority: &identity };
            if salted.scheme == i32::from(Scheme::Stretched) {
                return Ok(Some((derived::stretched(&password, account)?, Derived::default())));
            }
            let prepared = std::str::from_utf8(&password).unwrap_or_default();
            Ok(derived::from_password(prepared, &salted))
        });
        derived.await?.ok_or_else(misunderstood)
    }

    /// The user key, sealed under the export key alone or, since its user has changed the password, under both.
    async fn opened(
        &self,
        enrolled: &Enrolled,
        export: ExportKey,
        password: Zeroizing<Vec<u8>>,
    ) -> Result<UserKey, ServiceError> {
        let user = UserId::from_slice(&enrolled.user).ok_or_else(misunderstood)?;
        let sealed = enrolled.sealed.clone();
        let open = move || match seal::uncovered(user, &sealed, export.as_slice())? {
            Some(sealed) => seal::open(user, &sealed, &password),
            None => seal::open(user, &sealed, export.as_slice()),
        };
        self.laborious(move |_| open().map_err(AccountError::from)).await
    }
}
