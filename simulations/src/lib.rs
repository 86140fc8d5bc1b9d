//! Owns what tries CrossTalk out as a whole: scenarios, the load program, benchmarks.
//!
//! | module | owns |
//! | --- | --- |
//! | [`scenario`] | runs of many nodes on virtual time and a simulated network, by seed |
//! | [`world`] | that time and network: hosts, disks, links, faults |
//! | `client` | chat programs by script |
//! | `invariants` | what has to be true after each step |
//! | [`fuzz`] | what has to hold for any bytes that a parser meets |
//! | [`interrupt`] | Ctrl-C |
//! | [`load`] | the load program |
//! | [`mutants`] | which scenario catches which deliberate bug |
//! | [`progress`] | progress bars |
//! | [`report`] | what was measured and modelled, as tables, plots and a page |
//! | [`scale`] | the overlay at sizes that no machine here can run, as a model |

mod client;
mod errors;
pub mod fuzz;
pub mod interrupt;
mod invariants;
pub mod load;
pub mod mutants;
pub mod progress;
pub mod report;
pub mod scale;
pub mod scenario;
pub mod world;
