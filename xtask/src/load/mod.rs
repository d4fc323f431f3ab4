//! Load of our own making: an open-loop and a closed-loop generator, and what it measures.
//!
//! A [`Generator`] runs a [`Work`] again and again, on threads of its own, at a [`Pace`]. At a [rate](Pace::Rate) every request has
//! its moment in a [`Schedule`] that is fixed before the first is sent, and its *response time* counts from that moment, however late it
//! was sent: a server that stalls makes all who would have come meanwhile wait, and that is what their users feel. The *service time*
//! beside it counts from when the request was really sent. A tool that only knows the second sends nothing during a stall,
//! and so reports one slow answer where there were thousands (coordinated omission).
//!
//! [`HttpWork`] asks an HTTP service for paths; whoever has another kind of work implements [`Work`] and [`Worker`].

mod alarm;
mod connection;
mod endpoint;
mod gauge;
mod generator;
mod http;
mod recorder;
mod schedule;
mod turns;

pub use connection::Connection;
pub use endpoint::Endpoint;
pub use gauge::{Gauge, Standing};
pub use generator::{Amount, Effort, Generator, Measured, Pace, Plan, Work, Worker};
pub use http::{Class, HttpWork};
pub use recorder::{Outcome, Recording, Slice, new_histogram};
pub use schedule::Schedule;
