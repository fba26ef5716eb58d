//! Draws the board. What colours say is said by words and signs as well.

use bytesize::ByteSize;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::board::{Board, Column, PAST_MAX};
use crate::agent::status::{ContainerGoing, Going};
use crate::cli::status::{error_words, one_line, rate};
use crate::cli::table::printable;

/// What the terminal can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    pub colours: bool,
    pub unicode: bool,
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const BARS_PLAIN: [char; 8] = ['_', '.', ',', '-', '=', '+', '*', '#'];
const KEYS: &str = " q quit   < > or 1-8 sort by   r turn round   up down move";
/// Beside each other with a blank between them.
const GAP: u16 = 1;
const NAME_WIDTH_MIN: u16 = 12;
const NAME_WIDTH_MAX: u16 = 40;
const SPARK_WIDTH_MIN: u16 = 6;
const SPARK_WIDTH_MAX: u16 = 30;

impl Looks {
    pub fn of_terminal(variable: &dyn Fn(&str) -> Option<String>) -> Looks {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| variable(name)).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        let is_dumb = variable("TERM").is_none_or(|term| term == "dumb" || term.starts_with("vt"));
        Looks {
            colours: variable("NO_COLOR").is_none() && !is_dumb,
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    fn bad(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colours { style.fg(Color::Red) } else { style }
    }

    fn dim(self) -> Style {
        if self.colours { Style::new().fg(Color::DarkGray) } else { Style::new() }
    }
}

pub fn draw(frame: &mut Frame<'_>, board: &Board, looks: Looks, now_seconds: f64) {
    let faults: Vec<String> = match (&board.silence, &board.going) {
        (Some(silence), _) => vec![silence.clone()],
        (None, Some(going)) => going.faults.clone(),
        _ => Vec::new(),
    };
    let n_faults = faults.len().min(3) as u16;
    let areas = [Constraint::Length(1), Constraint::Length(n_faults), Constraint::Min(1), Constraint::Length(1)];
    let [head, trouble, table, foot] = Layout::vertical(areas).areas(frame.area());
    let summary = board.going.as_ref().map(|going| summary(going, now_seconds)).unwrap_or_default();
    frame.render_widget(Paragraph::new(summary).style(Style::new().add_modifier(Modifier::BOLD)), head);
    let lines: Vec<Line<'_>> = faults.iter().map(|fault| Line::raw(format!("! {}", one_line(fault)))).collect();
    frame.render_widget(Paragraph::new(lines).style(looks.bad()), trouble);
    rows(frame, board, looks, table);
    frame.render_widget(Paragraph::new(KEYS).style(looks.dim()), foot);
}

fn summary(going: &Going, now_seconds: f64) -> String {
    let sum = |of: fn(&ContainerGoing) -> u64| going.containers.iter().map(of).sum::<u64>();
    let read: f64 = going.containers.iter().map(|container| container.bytes_per_second).sum();
    let commit = match going.last_commit_timestamp_seconds {
        0.0 => "none yet".to_owned(),
        at => format!("{} ago", span(now_seconds - at)),
    };
    format!(
        " longshore {}{}  up {}  {} containers  {} read  {} lag  {} held  {} lost  commit {commit}",
        printable(&going.version),
        if going.draining { " (draining)" } else { "" },
        span(now_seconds - going.start_time_seconds),
        going.containers.len(),
        rate(read),
        ByteSize(sum(|container| container.lag_bytes)),
        ByteSize(sum(|container| container.held_bytes)),
        ByteSize(going.lost_bytes),
    )
}

/// Seconds in the largest unit that says something.
fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A column, as wide as it is here. A `None` is the sparkline.
type Place = (Option<Column>, u16);

/// What fits: numbers first, then the state, the past and the error.
fn places(board: &Board, width: u16) -> Vec<Place> {
    let longest = board.rows().iter().map(|row| printable(&row.name).chars().count()).max().unwrap_or(0);
    let mut name = (longest as u16).clamp(NAME_WIDTH_MIN, NAME_WIDTH_MAX);
    let mut left = width.saturating_sub(name);
    let mut fits = |wanted: u16| {
        let fits = left >= wanted + GAP;
        left -= if fits { wanted + GAP } else { 0 };
        fits
    };
    let numbers = [(Column::Rate, 12), (Column::Lag, 10), (Column::Behind, 7), (Column::Held, 10), (Column::Open, 5)];
    let mut chosen: Vec<Place> =
        numbers.into_iter().filter(|(_, width)| fits(*width)).map(|(column, width)| (Some(column), width)).collect();
    if fits(10) {
        chosen.insert(0, (Some(Column::State), 10));
    }
    if left > SPARK_WIDTH_MIN + GAP {
        let spark = (left / 3).clamp(SPARK_WIDTH_MIN, SPARK_WIDTH_MAX);
        left -= spark + GAP;
        let behind_rate = chosen.iter().position(|(column, _)| *column == Some(Column::Rate)).map_or(0, |ix| ix + 1);
        chosen.insert(behind_rate, (None, spark));
    }
    if left > NAME_WIDTH_MIN + GAP {
        chosen.push((Some(Column::Error), left - GAP));
    } else {
        name += left;
    }
    chosen.insert(0, (Some(Column::Name), name));
    chosen
}

fn rows(frame: &mut Frame<'_>, board: &Board, looks: Looks, area: Rect) {
    let places = places(board, area.width);
    let header = places.iter().map(|(column, width)| {
        let title = column.map_or(String::new(), |column| {
            let sign = if board.falling { 'v' } else { '^' };
            let mark = if column == board.by { format!(" {sign}") } else { String::new() };
            format!("{}{mark}", column.title())
        });
        let style =
            if *column == Some(board.by) { Modifier::BOLD | Modifier::UNDERLINED } else { Modifier::UNDERLINED };
        Cell::from(aligned(*column, title, *width)).style(Style::new().add_modifier(style))
    });
    let header = Row::new(header.collect::<Vec<_>>());
    let rows = board.rows();
    let shown = rows.iter().map(|container| {
        let cells = places.iter().map(|(column, width)| cell(board, container, *column, *width, looks));
        Row::new(cells.collect::<Vec<_>>())
    });
    let widths: Vec<Constraint> = places.iter().map(|(_, width)| Constraint::Length(*width)).collect();
    let table = Table::new(shown.collect::<Vec<_>>(), widths)
        .header(header)
        .column_spacing(GAP)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(board.cursor());
    frame.render_stateful_widget(table, area, &mut state);
}

/// Numbers end at the right.
fn aligned(column: Option<Column>, text: String, width: u16) -> String {
    let width = usize::from(width);
    match column {
        Some(Column::Name | Column::State | Column::Error) | None => text,
        Some(_) => format!("{text:>width$}"),
    }
}

fn cell<'a>(board: &Board, container: &ContainerGoing, column: Option<Column>, width: u16, looks: Looks) -> Cell<'a> {
    let Some(column) = column else {
        return Cell::from(sparkline(&board.past(&container.id, usize::from(width).min(PAST_MAX)), width, looks));
    };
    let text = match column {
        Column::Name => printable(&container.name),
        Column::State => container.state.clone(),
        Column::Rate => rate(container.bytes_per_second),
        Column::Lag => ByteSize(container.lag_bytes).to_string(),
        Column::Behind => span(container.lag_seconds),
        Column::Held => ByteSize(container.held_bytes).to_string(),
        Column::Open => container.open_fragments.to_string(),
        Column::Error => {
            let sign = if container.trouble.is_some() { "! " } else { "" };
            let style = if container.trouble.is_some() { looks.bad() } else { looks.dim() };
            let words = container.last_error.as_ref().map(|error| error_words(error, container.trouble.is_some()));
            return Cell::from(Span::styled(format!("{sign}{}", words.unwrap_or_default()), style));
        }
    };
    let in_trouble = column == Column::Name && container.trouble.is_some();
    let text = aligned(Some(column), text, width);
    Cell::from(Span::styled(text, if in_trouble { looks.bad() } else { Style::new() }))
}

/// The newest at the right; as high as its own highest.
fn sparkline(past: &[f64], width: u16, looks: Looks) -> String {
    let bars = if looks.unicode { BARS } else { BARS_PLAIN };
    let highest = past.iter().copied().fold(1.0, f64::max);
    let bar = |rate: &f64| {
        let ix = (rate / highest * (bars.len() - 1) as f64).round() as usize;
        bars[ix.min(bars.len() - 1)]
    };
    let drawn: String = past.iter().map(bar).collect();
    let width = usize::from(width);
    format!("{drawn:>width$}")
}

#[cfg(test)]
mod tests;
