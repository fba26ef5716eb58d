//! `longshore completions` and `longshore man`: both made from the flags, so they can't tell of others.

use std::path::Path;

use clap::CommandFactory;

use crate::cli::flags::Shell;
use crate::cli::{Cli, Exit, Failure, print};
use crate::sys::places::write_new_text;

pub fn completions(shell: Shell) -> Result<Exit, Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "longshore", &mut script);
    print(&script);
    Ok(Exit::Done)
}

pub fn man(out: Option<&Path>) -> Result<Exit, Failure> {
    let Some(directory) = out else {
        print(&page(Cli::command()));
        return Ok(Exit::Done);
    };
    for (name, text) in pages() {
        let path = directory.join(format!("{name}.1"));
        write_new_text(&path, &text).map_err(|error| {
            Failure::new(Exit::CannotCreate, format!("cannot write {}", path.display()))
                .caused_by(&error)
                .hint("--out names a directory that exists")
        })?;
    }
    Ok(Exit::Done)
}

/// One page a command, named as `man` looks for it: longshore-state-list.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let mut pages = Vec::new();
    let mut waiting = vec![cli];
    while let Some(command) = waiting.pop() {
        waiting.extend(command.get_subcommands().cloned());
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        pages.push((name.clone(), page(command.name(name))));
    }
    pages
}

fn page(command: clap::Command) -> Vec<u8> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text).expect("memory takes what is written");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_names_its_flags() {
        let pages = pages();
        let page = |wanted: &str| {
            let found = pages.iter().find(|(name, _)| name == wanted).unwrap_or_else(|| panic!("{wanted}"));
            String::from_utf8(found.1.clone()).unwrap()
        };
        for (name, flag) in [
            ("longshore", "containers\\-dir"),
            ("longshore-run", "max\\-files"),
            ("longshore-backfill", "since"),
            ("longshore-state-forget", "state\\-dir"),
        ] {
            assert!(page(name).contains(flag), "{name}: {flag}\n{}", page(name));
        }
    }
}
