//! What the agent says of its work: counters, its own log (each cause once), health.

use std::time::Duration;

use crate::agent::Agent;
use crate::agent::commits::merge_loss;
use crate::agent::container::Trouble;
use crate::agent::schedule::retry_pause;
use crate::checkpoint::commit::Committer;
use crate::config::limits::POLL_MAX;
use crate::loss::{Loss, Reason};
use crate::pipe::Tally;
use crate::sink::file::Meddling;
use crate::sink::tidy::Tidier;
use crate::sys::Os;
use crate::sys::watch::Watcher;
use crate::telemetry::{Counters, FilterReason, Label, Redactable};

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    pub(super) fn count(&self, tally: &Tally, n_passed: u64) {
        self.counters.lines_read.inc_by(tally.lines);
        self.counters.bytes_read.inc_by(tally.bytes);
        self.counters.records_written.inc_by(tally.records);
        self.counters.filtered.of(FilterReason::Text).inc_by(tally.filtered);
        self.counters.filtered.of(FilterReason::Time).inc_by(tally.early);
        for (kind, n_replaced) in Redactable::ALL.iter().zip(tally.redacted) {
            if n_replaced > 0 {
                self.counters.redacted.of(*kind).inc_by(n_replaced);
            }
        }
        self.counters.split_lines.inc_by(tally.split);
        self.counters.late_pieces.inc_by(tally.late);
        self.counters.bytes_written.inc_by(tally.written_bytes);
        if tally.rewritten > 0 {
            self.counters.rotations.of(crate::telemetry::RotationKind::Truncate).inc_by(tally.rewritten);
        }
        if n_passed > 0 {
            self.counters.rotations.of(crate::telemetry::RotationKind::Rename).inc_by(n_passed);
        }
    }

    pub(super) fn take_losses(&mut self, ix: usize, losses: Vec<Loss>) {
        for loss in losses {
            let bytes = loss.end.zip(loss.start).map_or(0, |(end, start)| end - start);
            self.counters.lost(loss.reason, bytes);
            let now = self.os.monotonic();
            if self.said.say(loss.reason.name(), &loss.container, now).is_some() {
                tracing::warn!(container = %loss.name, file = %loss.file, reason = loss.reason.name(), start = loss.start,
                    end = loss.end, detail = %loss.detail, "bytes that were not delivered");
            }
            if let Some(slot) = self.slots.get_mut(&ix) {
                merge_loss(&mut slot.losses, loss);
            }
        }
    }

    pub(super) fn say_meddled(&mut self, ix: usize, meddling: Meddling, now: Duration) {
        let container = &self.slots[&ix].container;
        let name = container.facts.metadata.name.clone();
        let id = container.id.clone();
        if self.said.say("meddling", &id, now).is_some() {
            match meddling {
                Meddling::Removed => tracing::warn!(container = %name, "the output was removed; a new file goes on"),
                Meddling::Shortened { bytes } => {
                    tracing::warn!(container = %name, bytes, "the output was shortened by somebody else");
                }
                Meddling::Lengthened { bytes } => {
                    tracing::warn!(container = %name, bytes, "somebody else appended to the output");
                }
            }
        }
    }

    pub(super) fn troubled(&mut self, ix: usize, trouble: Trouble, now: Duration) {
        let slot = self.slots.get_mut(&ix).expect("it was served");
        slot.pace.went(false, now);
        let pause = retry_pause(slot.n_failures);
        slot.n_failures += 1;
        let id = slot.container.id.clone();
        let name = slot.container.facts.metadata.name.clone();
        if slot.container.wants_commit() {
            self.wanting.insert(ix);
        }
        self.counters.failed(&trouble);
        if self.said.say(trouble.cause(), &id, now).is_some() {
            tracing::error!(container = %name, "{trouble}; trying again");
        }
        self.health.set(trouble.cause(), trouble.to_string());
        slot.last_error = Some((trouble.to_string(), now));
        slot.trouble = Some(trouble);
        self.busy.troubled.insert(ix);
        slot.retry_at = now + pause;
        self.reschedule(ix, now + pause.min(POLL_MAX));
    }

    pub(super) fn heal(&mut self, ix: usize) {
        let slot = self.slots.get_mut(&ix).expect("it was served");
        slot.n_failures = 0;
        slot.retry_at = Duration::ZERO;
        let Some(trouble) = slot.trouble.take() else {
            return;
        };
        self.busy.troubled.remove(&ix);
        let cause = trouble.cause();
        let name = &slot.container.facts.metadata.name;
        if let Some(suppressed) = self.said.healed(cause, &slot.container.id) {
            tracing::info!(container = %name, cause, suppressed, "healed");
        }
        let others = self.slots.values().any(|slot| slot.trouble.as_ref().is_some_and(|other| other.cause() == cause));
        if !others {
            self.health.clear(cause);
        }
    }
}

impl Counters {
    pub(super) fn lost(&self, reason: Reason, bytes: u64) {
        use crate::telemetry::LostReason;
        let label = match reason {
            Reason::RotatedAway => LostReason::Rotated,
            Reason::Truncated => LostReason::Truncated,
            Reason::HeldMax => LostReason::Shed,
            Reason::Damaged | Reason::OutputDamaged => LostReason::Damaged,
            Reason::Malformed | Reason::Nul | Reason::Unmatched | Reason::Ambiguous => {
                self.parse_error(reason, bytes);
                return;
            }
        };
        self.lost_bytes.of(label).inc_by(bytes.max(1));
    }

    fn parse_error(&self, reason: Reason, _bytes: u64) {
        use crate::telemetry::ParseReason;
        match reason {
            Reason::Nul => self.parse_errors.of(ParseReason::Nul).inc(),
            Reason::Malformed => self.parse_errors.of(ParseReason::Torn).inc(),
            _ => {}
        }
    }

    fn failed(&self, trouble: &Trouble) {
        let reason = crate::telemetry::IoReason::of(trouble.error());
        match trouble {
            Trouble::Source(..) => self.read_failures.of(reason).inc(),
            Trouble::Output(..) => self.write_failures.of(reason).inc(),
        }
    }

    pub(super) fn tidied(&self, tidied: &crate::sink::tidy::Tidied) {
        use crate::telemetry::PruneReason;
        self.compressed.inc_by(tidied.compressed);
        self.pruned.of(PruneReason::Files).inc_by(tidied.pruned_files);
        self.pruned.of(PruneReason::Age).inc_by(tidied.pruned_age);
        self.pruned.of(PruneReason::Total).inc_by(tidied.pruned_total);
    }
}
