//! The face on loopback, raw sockets before it, and the test itself in the place of the event loop.
