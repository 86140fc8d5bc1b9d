//! The overlay core as a whole: a few nodes on a virtual clock and a virtual network.

mod faults;
mod hostile;
mod meeting;
mod messages;
mod names;
mod pump;
mod vectors;
