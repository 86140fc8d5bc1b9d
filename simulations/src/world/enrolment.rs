//! How people get their names at the server, on a first laptop by an invitation and on further ones by name and password: the
//! program's own questions and answers, over the world's links (`overlay/PROTOCOL.md` §12). *Pure.*

use crosstalk::authority::opaque::{Account, LoginAttempt, Registration};
use crosstalk::authority::{Answer as Administered, Question};
use crosstalk::core::admin::{Command, Reply};
use crosstalk::core::enrol::Home;
use crosstalk_overlay::core::Server;
use crosstalk_overlay::enrol::{self, Answer, Ask, Invitation, login_context};
use crosstalk_overlay::record::DeviceCert;

use super::World;
use super::events::{HostId, PersonId};
use super::office::DOMAIN;
use super::story::{Checked, Violation};

/// Everybody's.
const PASSWORD: &[u8] = b"four words are better";
/// How long an invitation counts, milliseconds.
const INVITED: u64 = 24 * 60 * 60 * 1_000;
/// How often a question is put that is not answered, and the pause between, milliseconds.
const TRIES: u32 = 12;
const PAUSE: u64 = 10_000;

impl World {
    /// A person gets the name `NAME@school.example` at the server, and an account of that name on a host.
    pub(crate) fn enrol(&mut self, person: PersonId, host: HostId, server: HostId) -> Checked {
        let invitation = self.invitation(person, server)?;
        let account = Account { address: &invitation.address, authority: &invitation.authority };
        let begun = Registration::with(PASSWORD, self.dice.seed());
        let begun = begun.map_err(|why| self.violation(why.to_string()))?;
        let token = invitation.token.to_vec();
        let register = enrol::Register { token: token.clone(), request: begun.request.clone() };
        let response = match self.ask_server(host, server, &Ask::Register(register))? {
            Answer::Registering(said) => said.response,
            other => return Err(self.violation(format!("nobody is registered: {other:?}"))),
        };
        let finished = begun.finish(PASSWORD, &response, account);
        let (upload, _) = finished.map_err(|why| self.violation(why.to_string()))?;
        let key = &self.people[person.0].key;
        let consent = enrol::consent(key, account.authority, account.address).to_vec();
        // Nobody opens the key with it: the world has all keys.
        let (user, sealed, recovery) = (key.id().as_bytes().to_vec(), vec![7; 98], vec![8; 98]);
        let ask = Ask::Enrol(enrol::Enrol { token, upload, user, sealed, recovery, consent });
        let enrolled = match self.ask_server(host, server, &ask)? {
            Answer::Enrolled(enrolled) => enrolled,
            other => return Err(self.violation(format!("nobody is enrolled: {other:?}"))),
        };
        self.readdress(person, invitation.address);
        self.move_in(person, host, server, enrolled)
    }

    fn invitation(&mut self, person: PersonId, server: HostId) -> Result<Invitation, Violation> {
        let name = self.people[person.0].name.to_owned();
        self.administer(server, Question::AddUser { name: name.clone() })?;
        let invite = Question::Invite { name, life: INVITED, places: Vec::new() };
        let link = match self.administer(server, invite)? {
            Administered::Invited(view) => view.link,
            other => return Err(self.violation(format!("nobody is invited: {other:?}"))),
        };
        Invitation::parse(link.reveal()).map_err(|why| self.violation(why.to_string()))
    }

    /// The same person on a further host, by name and password.
    pub(crate) fn enrol_again(&mut self, person: PersonId, host: HostId, server: HostId) -> Checked {
        let address = self.people[person.0].jid.clone();
        let authority = self.authority_of(server).ok_or_else(|| self.violation("no server"))?;
        let begun = LoginAttempt::with(PASSWORD, self.dice.seed());
        let begun = begun.map_err(|why| self.violation(why.to_string()))?;
        let request = begun.request.clone();
        let login = enrol::Login { address: address.clone(), request, nonce: 0, derived: false };
        let said = match self.ask_server(host, server, &Ask::Login(login))? {
            Answer::Challenged(said) => said,
            other => return Err(self.violation(format!("nobody logs in: {other:?}"))),
        };
        let context = login_context(&self.hosts[host.0].node, &self.hosts[server.0].node);
        let account = Account { address: &address, authority: &authority };
        let finished = begun.finish(PASSWORD, &said.response, account, &context);
        let (proof, _) = finished.map_err(|why| self.violation(why.to_string()))?;
        let prove = enrol::Prove { login: said.login, proof, client_key: Vec::new() };
        match self.ask_server(host, server, &Ask::Prove(prove))? {
            Answer::Enrolled(enrolled) => self.move_in(person, host, server, enrolled),
            other => Err(self.violation(format!("the password is not believed: {other:?}"))),
        }
    }

    fn ask_server(&mut self, host: HostId, server: HostId, ask: &Ask) -> Result<Answer, Violation> {
        let node = self.hosts[server.0].node;
        for _ in 0..TRIES {
            let (server, ask) = (Server::At(node, Vec::new()), ask.to_bytes());
            if let Reply::ServerSaid { answer, .. } = self.ask(host, Command::AskServer { server, ask })? {
                return Answer::from_bytes(&answer).ok_or_else(|| self.violation("a server says nonsense"));
            }
            self.run(PAUSE)?;
        }
        Err(self.violation(format!("a server did not answer {TRIES} times")))
    }

    fn move_in(
        &mut self,
        person: PersonId,
        host: HostId,
        server: HostId,
        enrolled: enrol::Enrolled,
    ) -> Checked {
        let authority = self.authority_of(server).ok_or_else(|| self.violation("no server"))?;
        let home = Home {
            authority: *authority.as_bytes(),
            server: *self.hosts[server.0].node.as_bytes(),
            places: Vec::new(),
            rotations: Vec::new(),
        };
        let mut account = self.new_account(person, host)?;
        (account.domain, account.name_cert) = (DOMAIN.to_owned(), Some(enrolled.name));
        self.add_account(person, host, Command::AddEnrolled { account: Box::new(account), home })
    }

    /// A person has logged in with the password: the certificate of the device is renewed, as the program does then.
    pub(crate) fn renew_device(&mut self, person: PersonId, host: HostId) -> Checked {
        let (wall, user) = (self.now(host).wall, self.people[person.0].user);
        let Some(device) = self.hosts[host.0].keys.get(&user).map(|keys| keys.device.id()) else {
            return Err(self.violation("somebody has no keys on that host"));
        };
        let cert = DeviceCert::issue(&self.people[person.0].key, device, wall);
        let cert = cert.map_err(|why| self.violation(why.to_string()))?.bytes().to_vec();
        match self.ask(host, Command::Renew { user, device_cert: Some(cert), name_cert: None })? {
            Reply::Done => Ok(()),
            other => Err(self.violation(format!("a certificate was not renewed: {other:?}"))),
        }
    }
}
