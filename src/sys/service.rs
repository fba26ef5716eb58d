//! Tells systemd how the service gets on. Without it (no NOTIFY_SOCKET) nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// The agent works: sent when the store is open and the directories are followed.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// Settings are read again; [`ready`] says that it is done, whether they were taken or not.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell_all(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "cannot tell systemd the time of a reload"),
    }
}

/// The drain has begun.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

pub fn alive() {
    tell(NotifyState::Watchdog);
}

/// How often systemd wants to hear from us, if it does: half the time after which it would end us.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(state: NotifyState) {
    tell_all(&[state]);
}

fn tell_all(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}
