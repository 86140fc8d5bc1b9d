//! Owns the epoll instance: which sockets can be read or written.

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Sockets handled per turn; small, so that answers leave while others still wait to be read.
const BATCH: usize = 64;

/// Level-triggered readiness of sockets known by a number.
#[derive(Debug)]
pub struct Poll {
    epoll: OwnedFd,
}

/// What a socket is ready for.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Its number.
    pub token: usize,
    /// There are bytes, an end or an error to read.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
}

impl Poll {
    /// # Errors
    /// Whatever the kernel says.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches `socket` for reading.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn add(&self, socket: impl AsFd, token: usize) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token as u64), EventFlags::IN)?)
    }

    /// Watches `socket` for writing as well, or no longer.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn want_write(&self, socket: impl AsFd, token: usize, wanted: bool) -> io::Result<()> {
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(token as u64), flags)?)
    }

    /// Stops watching `socket`.
    pub fn remove(&self, socket: impl AsFd) {
        // The kernel forgets it anyway when it is closed.
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Waits at most `patience`, to the nanosecond, and fills `ready`.
    ///
    /// # Errors
    /// Whatever the kernel says, except interruption, which is an empty answer.
    pub fn wait(&self, patience: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut room = [const { MaybeUninit::<Event>::uninit() }; BATCH];
        match epoll::wait(&self.epoll, &mut room[..], Some(&timeout)) {
            Ok((events, _)) => ready.extend(events.iter().map(Ready::from)),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

impl From<&Event> for Ready {
    fn from(event: &Event) -> Self {
        let flags = event.flags;
        Self {
            token: usize::try_from(event.data.u64()).unwrap_or(usize::MAX),
            readable: flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP),
            writable: flags.contains(EventFlags::OUT),
        }
    }
}
