//! What tests of many real swarms in one process share.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

pub mod air;
pub mod crowd;
pub mod member;
#[path = "../core/pump.rs"]
pub mod pump;
pub mod rogue;
