//! Waiting for a moment more exactly than the runtime's own timer does, which counts milliseconds.

use std::io;
use std::time::Instant;

/// Wakes its task at a moment. Each thread has its own.
///
/// On Linux a timer of the kernel's that the runtime waits for as it waits for a socket: exact to some microseconds, and without
/// spinning, which on a small machine would take the core that the server needs.
#[derive(Debug)]
pub(super) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: tokio::io::unix::AsyncFd<rustix::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Alarm {
    /// To be called on the runtime that is to wait.
    pub(super) fn new() -> io::Result<Alarm> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        #[expect(
            deprecated,
            reason = "its successor has the caller promise, as unsafe code, that the timer stays open: an owned one does"
        )]
        let timer = tokio::io::unix::AsyncFd::with_interest(timer, tokio::io::Interest::READABLE)?;
        Ok(Alarm { timer })
    }

    /// Returns at `moment`, or a few microseconds after it.
    pub(super) async fn wait_until(&self, moment: Instant) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let value = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let interval = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // Setting it anew also forgets that it went off before, so there is nothing to read from it.
            timerfd_settime(
                self.timer.get_ref(),
                TimerfdTimerFlags::empty(),
                &Itimerspec {
                    it_interval: interval,
                    it_value: value,
                },
            )?;
            self.timer.readable().await?.clear_ready();
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// To be called on the runtime that is to wait.
    pub(super) fn new() -> io::Result<Alarm> {
        Ok(Alarm {})
    }

    /// Returns within a millisecond or two after `moment`.
    pub(super) async fn wait_until(&self, moment: Instant) -> io::Result<()> {
        tokio::time::sleep_until(moment.into()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_never_goes_off_early_and_can_be_set_again() {
        let alarm = Alarm::new().unwrap();
        for micros in [0, 1, 150, 3_000, 700] {
            let moment = Instant::now() + Duration::from_micros(micros);
            alarm.wait_until(moment).await.unwrap();
            assert!(Instant::now() >= moment);
        }
    }
}
