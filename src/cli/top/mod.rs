//! `longshore top`: what `status` tells, once a second, in a terminal. The agent is asked on a thread of its own, so that
//! keys are answered also while it is slow.

mod board;
mod draw;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};

use self::board::{Board, Next};
use self::draw::Looks;
use crate::agent::status::Going;
use crate::cli::status::going;
use crate::cli::{Exit, Failure};
use crate::config::Places;
use crate::sys::Os;
use crate::sys::places::variable;
use crate::sys::signal::{Asked, Signals};
use crate::sys::unix::Unix;

/// How often the agent is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest a key, an answer or a signal waits to be seen.
const PATIENCE: Duration = Duration::from_millis(100);

pub fn top(places: &Places) -> Result<Exit, Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage("top needs a terminal").hint("`longshore status` prints the same once"));
    }
    // Before the screen is taken: an agent that isn't there is said in a plain line.
    let first = going(places)?;
    let (sender, news) = channel();
    watch_signals(sender.clone())?;
    ask_on(places.clone(), sender)?;
    let mut board = Board::default();
    board.take(Ok(first));
    let failed = |error: io::Error| Failure::new(Exit::Failed, "cannot use this terminal").caused_by(&error);
    // Restores the screen when it panics, too.
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let result = show(&mut terminal, &mut board, &news);
    let restored = ratatui::try_restore();
    result.and(restored).map_err(failed)?;
    Ok(Exit::Done)
}

enum News {
    Going(Result<Box<Going>, String>),
    /// A signal asks for the end.
    End,
}

fn show(terminal: &mut ratatui::DefaultTerminal, board: &mut Board, news: &Receiver<News>) -> io::Result<()> {
    let looks = Looks::of_terminal(&variable);
    loop {
        let now_seconds = Unix.wall_ns() as f64 / 1e9;
        terminal.draw(|frame| draw::draw(frame, board, looks, now_seconds))?;
        if event::poll(PATIENCE)? {
            // A change of the size is drawn like all else.
            if let Event::Key(key) = event::read()?
                && board.key(key) == Next::End
            {
                return Ok(());
            }
        }
        for news in news.try_iter() {
            match news {
                News::Going(going) => board.take(going.map(|going| *going)),
                News::End => return Ok(()),
            }
        }
    }
}

/// Asks once a second, for as long as somebody listens.
fn ask_on(places: Places, sender: Sender<News>) -> Result<(), Failure> {
    let (_never, pause) = channel::<()>();
    let work = move || {
        let _never = _never;
        while pause.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            let answer = going(&places).map(Box::new).map_err(|failure| failure.message);
            if sender.send(News::Going(answer)).is_err() {
                return;
            }
        }
    };
    start("ask", work)
}

/// Whoever ends us finds the terminal as it was.
fn watch_signals(sender: Sender<News>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, "cannot watch for signals").caused_by(&error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let signals = {
        let _inside = runtime.enter();
        Signals::install().map_err(failed)?
    };
    start("signals", move || {
        runtime.block_on(signals.run(move |asked| {
            if asked != Asked::Reopen {
                let _ended_already = sender.send(News::End);
            }
        }));
    })
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|error| Failure::new(Exit::Failed, "cannot start a thread").caused_by(&error))
}
