use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::board::Next;
use super::*;
use crate::agent::status::LastError;

const PLAIN: Looks = Looks { colours: false, unicode: true };

fn container(name: &str, rate: f64, lag_bytes: u64) -> ContainerGoing {
    ContainerGoing {
        name: name.into(),
        id: format!("id of {name}"),
        state: "running".into(),
        bytes_per_second: rate,
        lag_bytes,
        lag_seconds: 3.2,
        held_bytes: 0,
        open_fragments: 1,
        trouble: None,
        last_error: None,
    }
}

fn going(containers: Vec<ContainerGoing>) -> Going {
    Going {
        version: "1.2.3".into(),
        start_time_seconds: 1000.0,
        last_commit_timestamp_seconds: 8198.0,
        draining: false,
        lines_read: 0,
        bytes_read: 0,
        records_written: 0,
        lost_bytes: 7,
        faults: vec![],
        sinks: Vec::new(),
        containers,
    }
}

fn board() -> Board {
    let mut board = Board::default();
    for step in 0..4 {
        let full = LastError { text: "cannot write /out: no space".into(), age_seconds: 5.0 };
        let db = ContainerGoing {
            trouble: Some(full.text.clone()),
            last_error: Some(full),
            ..container("db\u{1b}[2J", 10.0, 5000)
        };
        let containers = vec![container("web", 1024.0 * f64::from(step), 0), db, container("idle", 0.0, 9)];
        board.take(Ok(going(containers)));
    }
    board
}

fn screen(board: &Board, looks: Looks, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, board, looks, 8200.0)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn press(board: &mut Board, code: KeyCode) -> Next {
    board.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn names(lines: &[String]) -> Vec<String> {
    let words = lines.iter().filter_map(|line| line.split_whitespace().next());
    words.filter(|word| ["web", "idle"].contains(word) || word.starts_with("db")).map(str::to_owned).collect()
}

#[test]
fn all_is_shown_on_a_wide_screen() {
    let lines = screen(&board(), PLAIN, 130, 8);
    assert_eq!(
        lines[0],
        " longshore 1.2.3  up 2h  3 containers  3.0 KiB/s read  4.9 KiB lag  0 B held  7 B lost  commit 2s ago"
    );
    let titles: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(titles, ["NAME", "STATE", "RATE", "v", "LAG", "BEHIND", "HELD", "OPEN", "LAST", "ERROR"]);
    assert!(lines[2].contains("3.0 KiB/s") && lines[2].contains("▁▃▆█"), "{}", lines[2]);
    assert!(lines[3].starts_with("db?[2J") && lines[3].contains("! cannot write /out: no space"), "{}", lines[3]);
    assert_eq!(names(&lines), ["web", "db?[2J", "idle"]);
    assert!(lines[7].contains("q quit"));
}

#[test]
fn narrow_and_low_screens_show_what_fits() {
    for width in 1..140 {
        for height in 1..9 {
            let lines = screen(&board(), PLAIN, width, height);
            assert_eq!(lines.len(), usize::from(height));
        }
    }
    let lines = screen(&board(), PLAIN, 40, 8);
    assert!(lines[1].contains("RATE") && lines[1].contains("LAG") && !lines[1].contains("ERROR"), "{}", lines[1]);
}

#[test]
fn keys_sort_and_move_and_end() {
    let mut board = board();
    press(&mut board, KeyCode::Right);
    assert_eq!(names(&screen(&board, PLAIN, 100, 8)), ["db?[2J", "idle", "web"], "by lag");
    press(&mut board, KeyCode::Char('1'));
    assert_eq!(names(&screen(&board, PLAIN, 100, 8)), ["db?[2J", "idle", "web"], "by name");
    press(&mut board, KeyCode::Char('r'));
    assert_eq!(names(&screen(&board, PLAIN, 100, 8)), ["web", "idle", "db?[2J"]);
    press(&mut board, KeyCode::Char('8'));
    assert_eq!(names(&screen(&board, PLAIN, 100, 8))[0], "db?[2J", "by error");
    press(&mut board, KeyCode::Left);
    assert_eq!(board.by, Column::Open);

    press(&mut board, KeyCode::Char('1'));
    press(&mut board, KeyCode::End);
    press(&mut board, KeyCode::End);
    assert_eq!(board.cursor(), Some(2));
    press(&mut board, KeyCode::Char('r'));
    assert_eq!(board.cursor(), Some(0), "the cursor stays on its container");
    board.take(Ok(going(vec![container("new", 1.0, 0)])));
    assert_eq!(board.cursor(), None);
    press(&mut board, KeyCode::PageUp);
    assert_eq!(board.cursor(), Some(0));

    assert_eq!(press(&mut board, KeyCode::Char('x')), Next::Go);
    assert_eq!(press(&mut board, KeyCode::Char('q')), Next::End);
    assert_eq!(board.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Next::End);
}

#[test]
fn an_agent_that_went_silent_is_said_and_its_last_words_stay() {
    let mut board = board();
    board.take(Err("no agent is running on /x".into()));
    let lines = screen(&board, PLAIN, 100, 8);
    assert_eq!(lines[1], "! no agent is running on /x");
    assert_eq!(names(&lines).len(), 3);
    assert_eq!(screen(&Board::default(), PLAIN, 80, 4).len(), 4);
}

#[test]
fn without_unicode_and_colours_the_same_is_said() {
    let lines = screen(&board(), Looks { colours: false, unicode: false }, 130, 8);
    assert!(lines.iter().all(|line| line.is_ascii()), "{lines:?}");
    assert!(lines[2].contains("_,+#"), "{}", lines[2]);
    let of = |pairs: &[(&str, &str)]| {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Looks::of_terminal(&move |name| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
    };
    let xterm = ("TERM", "xterm-256color");
    assert_eq!(of(&[xterm, ("LANG", "en_GB.UTF-8")]), Looks { colours: true, unicode: true });
    assert_eq!(of(&[xterm, ("LANG", "en_GB.UTF-8"), ("LC_ALL", "C")]), Looks { colours: true, unicode: false });
    assert_eq!(of(&[xterm, ("NO_COLOR", "1")]), Looks { colours: false, unicode: false });
    assert_eq!(of(&[("TERM", "dumb"), ("LANG", "C.utf8")]), Looks { colours: false, unicode: true });
}
