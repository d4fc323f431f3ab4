//! What goes wrong around the service, on real servers: `docs/reliability.md` names the test of each hazard.

mod disks;
mod documents;
mod losses;
mod servers;
mod silence;
mod streams;
