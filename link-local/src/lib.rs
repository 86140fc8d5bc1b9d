//! Who is on this link: the vocabulary of XEP-0174 (serverless messaging) and the life cycle of neighbours (*pure*).
//!
//! | file | owns |
//! | --- | --- |
//! | [`txt`] | a DNS TXT record ⇄ an [`Advert`](txt::Advert) |
//! | [`instance`] | service instance names, collisions, and addresses `…@link.internal` |
//! | [`show`] | the states of availability that RFC 6121 and XEP-0174 know |
//! | [`neighbours`] | sightings, goodbyes and expiry → appeared, changed, vanished |
//! | [`mdns`] | mDNS and DNS-SD: who announces what on which interface, and whether they are still there |
//! | [`clean`] | names and texts from others, made safe to show |
//! | `net` | sockets and interfaces for [`mdns`]: the shell, behind the feature `net`, and all that is not pure |
//!
//! Invariants: parsers are total, so nothing that comes from the link makes them fail or grow; no neighbour is shown
//! beyond the life of the last sighting; names of others reach nobody uncleaned. Nothing here but `net` reads a clock or
//! opens a socket: times are arguments, as in the overlay.
//!
//! ```
//! use crosstalk_link_local::neighbours::{Event, NeighbourKey, Neighbours, Sighting};
//! use crosstalk_link_local::instance::Instance;
//! use crosstalk_overlay::time::Now;
//!
//! let mut neighbours = Neighbours::default();
//! let now = Now { mono: 0, wall: 0 };
//! let instance = Instance::compose("Anna", "laptop");
//! let key = NeighbourKey::Bonjour(instance);
//! let anna = Sighting { nickname: "Anna".into(), ..Sighting::new(key.clone(), 120_000) };
//! neighbours.sighted(anna, now);
//! assert!(matches!(neighbours.poll_event(), Some(Event::Appeared(anna)) if anna.nickname == "Anna"));
//! neighbours.gone(&key, now);
//! assert!(matches!(neighbours.poll_event(), Some(Event::Vanished(_))));
//! ```

pub mod clean;
pub mod instance;
pub mod mdns;
pub mod neighbours;
#[cfg(feature = "net")]
pub mod net;
pub mod show;
pub mod txt;
