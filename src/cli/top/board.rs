//! What `top` shows, and what keys change about it. Knows no terminal.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::agent::status::{ContainerGoing, Going};

/// Rates that a sparkline can show.
pub const PAST_MAX: usize = 120;
/// Rows that a page of keys moves.
const PAGE: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Name,
    State,
    Rate,
    Lag,
    Behind,
    Held,
    Open,
    Error,
}

/// After a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Go,
    End,
}

#[derive(Debug)]
pub struct Board {
    pub going: Option<Going>,
    /// Why the agent gave no newer one.
    pub silence: Option<String>,
    /// Bytes a second of each container, the newest last.
    past: HashMap<String, VecDeque<f64>>,
    pub by: Column,
    pub falling: bool,
    /// The container the cursor is on; it stays there when the order changes.
    selected: Option<String>,
}

impl Column {
    pub const ALL: [Column; 8] = [
        Column::Name,
        Column::State,
        Column::Rate,
        Column::Lag,
        Column::Behind,
        Column::Held,
        Column::Open,
        Column::Error,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Column::Name => "NAME",
            Column::State => "STATE",
            Column::Rate => "RATE",
            Column::Lag => "LAG",
            Column::Behind => "BEHIND",
            Column::Held => "HELD",
            Column::Open => "OPEN",
            Column::Error => "LAST ERROR",
        }
    }

    /// Names from A, numbers from the largest.
    fn falls(self) -> bool {
        !matches!(self, Column::Name | Column::State)
    }

    fn compare(self, one: &ContainerGoing, other: &ContainerGoing) -> Ordering {
        match self {
            Column::Name => one.name.cmp(&other.name),
            Column::State => one.state.cmp(&other.state),
            Column::Rate => one.bytes_per_second.total_cmp(&other.bytes_per_second),
            Column::Lag => one.lag_bytes.cmp(&other.lag_bytes),
            Column::Behind => one.lag_seconds.total_cmp(&other.lag_seconds),
            Column::Held => one.held_bytes.cmp(&other.held_bytes),
            Column::Open => one.open_fragments.cmp(&other.open_fragments),
            // Trouble of now before errors of before, and of those the latest.
            Column::Error => {
                let rank = |container: &ContainerGoing| match &container.last_error {
                    None => f64::NEG_INFINITY,
                    Some(_) if container.trouble.is_some() => f64::INFINITY,
                    Some(error) => -error.age_seconds,
                };
                rank(one).total_cmp(&rank(other))
            }
        }
    }
}

impl Default for Board {
    fn default() -> Board {
        Board { going: None, silence: None, past: HashMap::new(), by: Column::Rate, falling: true, selected: None }
    }
}

impl Board {
    /// What the agent answered, or why it didn't. Its last answer stays.
    pub fn take(&mut self, answer: Result<Going, String>) {
        let going = match answer {
            Ok(going) => going,
            Err(why) => {
                self.silence = Some(why);
                return;
            }
        };
        self.silence = None;
        self.past.retain(|id, _| going.containers.iter().any(|container| container.id == *id));
        for container in &going.containers {
            let past = self.past.entry(container.id.clone()).or_default();
            past.push_back(container.bytes_per_second);
            if past.len() > PAST_MAX {
                past.pop_front();
            }
        }
        self.going = Some(going);
    }

    /// In the order asked for; equals by name.
    pub fn rows(&self) -> Vec<&ContainerGoing> {
        let mut rows: Vec<&ContainerGoing> = self.going.iter().flat_map(|going| &going.containers).collect();
        rows.sort_by(|one, other| {
            let order = self.by.compare(one, other);
            let order = if self.falling { order.reverse() } else { order };
            order.then_with(|| (&one.name, &one.id).cmp(&(&other.name, &other.id)))
        });
        rows
    }

    /// The newest rates of a container, at most `n`, the newest last.
    pub fn past(&self, id: &str, n: usize) -> Vec<f64> {
        let Some(past) = self.past.get(id) else { return Vec::new() };
        past.iter().skip(past.len().saturating_sub(n)).copied().collect()
    }

    /// The row the cursor is on.
    pub fn cursor(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.rows().iter().position(|row| row.id == *selected)
    }

    pub fn key(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Go;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return Next::End,
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => return Next::End,
            KeyCode::Left | KeyCode::Char('<') => self.sort_beside(Column::ALL.len() - 1),
            KeyCode::Right | KeyCode::Char('>') => self.sort_beside(1),
            KeyCode::Char('r') => self.falling = !self.falling,
            KeyCode::Char(digit @ '1'..='8') => self.sort_by(Column::ALL[digit as usize - '1' as usize]),
            KeyCode::Down | KeyCode::Char('j') => self.step(1, true),
            KeyCode::Up | KeyCode::Char('k') => self.step(1, false),
            KeyCode::PageDown => self.step(PAGE, true),
            KeyCode::PageUp => self.step(PAGE, false),
            KeyCode::Home | KeyCode::Char('g') => self.step(usize::MAX, false),
            KeyCode::End | KeyCode::Char('G') => self.step(usize::MAX, true),
            _ => {}
        }
        Next::Go
    }

    fn sort_beside(&mut self, by: usize) {
        let ix = Column::ALL.iter().position(|column| *column == self.by).unwrap_or(0);
        self.sort_by(Column::ALL[(ix + by) % Column::ALL.len()]);
    }

    /// The same column once more turns the order round.
    fn sort_by(&mut self, column: Column) {
        self.falling = if column == self.by { !self.falling } else { column.falls() };
        self.by = column;
    }

    fn step(&mut self, by: usize, down: bool) {
        let n_rows = self.rows().len();
        let next = match self.cursor() {
            None => 0,
            Some(ix) if down => ix.saturating_add(by).min(n_rows.saturating_sub(1)),
            Some(ix) => ix.saturating_sub(by),
        };
        let id = self.rows().get(next).map(|row| row.id.clone());
        self.selected = id;
    }
}
