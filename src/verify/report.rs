//! What the audit found, for people and for machines.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::loss::{Loss, Reason};
use crate::verify::join::Spot;

/// Ranges and findings named for one container; the numbers count on.
const NAMED_MAX: usize = 100;

/// One container's part. Numbers count lines of output.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ContainerReport {
    pub name: String,
    pub id: String,
    pub outputs: Vec<String>,
    /// In the output, once, where they should be, under the settings in force.
    pub delivered: u64,
    /// The same, under settings that are not in force any more.
    pub other_settings: u64,
    /// Not read yet, or decided and still owed.
    pub pending: u64,
    /// Their segment went by retention.
    pub pruned: u64,
    /// Before `--since`, or left out by a filter.
    pub filtered: u64,
    /// Source lines before the place where `--from end` began.
    pub before_begin: u64,
    /// Lines of output whose source is gone.
    pub only_copy: u64,
    pub malformed: u64,
    pub malformed_bytes: u64,
    pub nul_bytes: u64,

    pub missing: u64,
    pub repeated: u64,
    pub out_of_order: u64,
    pub altered: u64,
    /// Lines of output that no source line renders, where the source is there.
    pub foreign: u64,

    pub missing_ranges: Vec<MissingRange>,
    pub findings: Vec<Finding>,
    /// Files that could not be read to their end.
    pub damaged: Vec<String>,
    /// Entries of the loss ledger, by reason.
    pub ledger: BTreeMap<&'static str, u64>,
    /// Entries that mean lost lines.
    pub ledger_losses: u64,
    /// Why it could not be checked.
    pub trouble: Option<String>,
}

/// Source lines that should be in the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingRange {
    pub file: String,
    /// Bytes of the file, uncompressed.
    pub start: u64,
    pub end: u64,
    pub first_time: String,
    pub last_time: String,
    pub lines: u64,
    /// The ledger says why.
    pub explained: Option<String>,
    #[serde(skip)]
    pub(super) generation: usize,
}

/// One line of output that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub what: Wrong,
    pub output: String,
    pub segment: u64,
    pub offset: u64,
    /// The line's beginning.
    pub line: String,
    #[serde(skip)]
    pub(super) bytes: u64,
}

impl Finding {
    pub(super) fn place(&self) -> (&str, u64, u64) {
        (&self.output, self.segment, self.offset)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    Repeated,
    OutOfOrder,
    Altered,
    Foreign,
}

impl Wrong {
    fn words(self) -> &'static str {
        match self {
            Wrong::Repeated => "repeated",
            Wrong::OutOfOrder => "out of order",
            Wrong::Altered => "altered",
            Wrong::Foreign => "not of this log",
        }
    }
}

impl ContainerReport {
    pub fn is_fine(&self) -> bool {
        let wrong = self.missing + self.repeated + self.out_of_order + self.altered + self.foreign;
        wrong == 0 && self.ledger_losses == 0 && self.damaged.is_empty() && self.trouble.is_none()
    }

    pub(super) fn found(&mut self, finding: Finding) {
        match finding.what {
            Wrong::Repeated => self.repeated += 1,
            Wrong::OutOfOrder => self.out_of_order += 1,
            Wrong::Altered => self.altered += 1,
            Wrong::Foreign => self.foreign += 1,
        }
        if self.findings.len() < NAMED_MAX {
            self.findings.push(finding);
        }
    }

    /// Names missing lines by range; `lines` come in any order, each with its spot and time.
    pub(super) fn name_missing(&mut self, mut lines: Vec<Missing>, file_name: impl Fn(usize) -> String) {
        self.missing += lines.iter().map(|line| line.lines).sum::<u64>();
        lines.sort_by_cached_key(|line| line.number);
        let mut last_number = None;
        for line in lines {
            let follows = last_number.is_some_and(|last| line.number <= last + 1);
            last_number = Some(line.last_number);
            let has_room = self.missing_ranges.len() < NAMED_MAX;
            match self.missing_ranges.last_mut() {
                Some(range) if follows && range.generation == line.first.generation => {
                    range.end = range.end.max(line.last.end);
                    range.last_time = line.last_time;
                    range.lines += line.lines;
                }
                _ if has_room => self.missing_ranges.push(MissingRange {
                    file: file_name(line.first.generation),
                    start: line.first.start,
                    end: line.last.end,
                    first_time: line.first_time,
                    last_time: line.last_time,
                    lines: line.lines,
                    explained: None,
                    generation: line.first.generation,
                }),
                _ => {}
            }
        }
    }

    /// Counts the ledger's entries of this container, and looks for those that explain what is missing. What a sink could
    /// not deliver is in the files all the same.
    pub(super) fn hold_against(&mut self, ledger: &[Loss]) {
        let of_it: Vec<&Loss> = ledger.iter().filter(|loss| loss.container == self.id && loss.sink.is_none()).collect();
        for loss in &of_it {
            *self.ledger.entry(loss.reason.name()).or_default() += 1;
            self.ledger_losses += u64::from(is_lost_to_files(loss));
        }
        for range in &mut self.missing_ranges {
            let overlaps = |loss: &&&Loss| match (loss.start, loss.end) {
                (Some(start), Some(end)) => start < range.end && range.start < end,
                _ => false,
            };
            // An entry of an output has bytes of that one.
            let of_log = |loss: &&&Loss| is_lost_to_files(loss) && loss.reason != Reason::OutputDamaged;
            let why = of_it.iter().filter(of_log).find(overlaps);
            range.explained = why.map(|loss| loss.reason.name().to_owned());
        }
    }

    /// One line a problem.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.trouble.clone());
        problems.extend(self.damaged.iter().map(|damage| format!("cannot be read to its end: {damage}")));
        let mut n_named = 0;
        for range in &self.missing_ranges {
            let why = match &range.explained {
                Some(reason) => format!("the ledger says {reason}"),
                None => "not in the ledger".to_owned(),
            };
            n_named += range.lines;
            problems.push(format!(
                "missing: {} lines, {} bytes {}..{}, from {} to {}, {why}",
                range.lines, range.file, range.start, range.end, range.first_time, range.last_time
            ));
        }
        if n_named < self.missing {
            problems.push(format!("missing: {} further lines", self.missing - n_named));
        }
        for finding in &self.findings {
            problems.push(format!(
                "{}: {} segment {} at {}: {}",
                finding.what.words(),
                finding.output,
                finding.segment,
                finding.offset,
                finding.line
            ));
        }
        let n_wrong = self.repeated + self.out_of_order + self.altered + self.foreign;
        if n_wrong > self.findings.len() as u64 {
            problems.push(format!("{} further lines of output are wrong", n_wrong - self.findings.len() as u64));
        }
        if self.ledger_losses > 0 {
            problems.push(format!("{} entries in the loss ledger; see longshore ledger", self.ledger_losses));
        }
        problems
    }
}

/// Lines that the outputs lack. What a sink could not deliver is in the files all the same; what can't be parsed is
/// counted, and is no line.
pub(super) fn is_lost_to_files(loss: &Loss) -> bool {
    loss.sink.is_none() && loss.reason.is_loss() && loss.reason != Reason::Malformed
}

/// Missing lines of one message, or of several that follow each other.
#[derive(Clone, Debug)]
pub struct Missing {
    pub number: u64,
    pub last_number: u64,
    pub first: Spot,
    pub last: Spot,
    pub first_time: String,
    pub last_time: String,
    pub lines: u64,
}

/// The table, then what is wrong.
pub fn render(all: &[ContainerReport]) -> String {
    const HEAD: [&str; 14] = [
        "NAME",
        "VERDICT",
        "DELIVERED",
        "OTHER SETTINGS",
        "PENDING",
        "PRUNED",
        "FILTERED",
        "BEFORE BEGIN",
        "ONLY COPY",
        "MISSING",
        "REPEATED",
        "OUT OF ORDER",
        "ALTERED",
        "FOREIGN",
    ];
    let rows = all.iter().map(|report| {
        let verdict = if report.is_fine() { "ok" } else { "PROBLEM" };
        let numbers = [
            report.delivered,
            report.other_settings,
            report.pending,
            report.pruned,
            report.filtered,
            report.before_begin,
            report.only_copy,
            report.missing,
            report.repeated,
            report.out_of_order,
            report.altered,
            report.foreign,
        ];
        let mut cells = vec![report.name.clone(), verdict.to_owned()];
        cells.extend(numbers.map(|number| number.to_string()));
        cells
    });
    let mut text = crate::cli::stored::table(&HEAD, rows.collect());
    for report in all {
        for problem in report.problems() {
            text.push_str(&crate::cli::stored::printable(&format!("{}: {problem}", report.name)));
            text.push('\n');
        }
    }
    text
}
