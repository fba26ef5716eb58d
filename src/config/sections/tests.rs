use std::path::Path;

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};
use crate::config::Compression;

fn sections(text: &str) -> Result<Sections, String> {
    let mut files = Files::default();
    files
        .add(Path::new("/c/config.toml"), text, &|_| None)
        .and_then(|()| Sections::parse(&files))
        .map_err(|failure| failure.to_string())
}

fn base(flags: &str) -> Treatment {
    let words = ["longshore", "run"].into_iter().chain(flags.split_whitespace());
    let Command::Run(flags) = Cli::try_parse_from(words).unwrap().into_command() else { unreachable!("it says run") };
    Treatment::of(&flags).unwrap()
}

#[test]
fn a_later_section_wins_key_by_key() {
    let sections = sections(
        "[[container]]\nname = 'web*'\nlimit = '2MB'\nfilter_regex = 'a'\nmax_files = 3\n\
         [[container]]\nname = ['web-1', 'db']\nlimit = 7\ncompression = 'zstd'\nredact = ['email', '[a,b]{1,2}c']\n\
         [[container]]\nname = 'db'\nredact = 'none'\ntemplate = '{log}'\nmax_age = '7d'\n",
    )
    .unwrap();
    let base = base("--limit 1MB --format json");
    let of = |name: &str| sections.treatment(&base, name);
    let web = of("web");
    assert_eq!((web.limit, web.max_files, web.compression), (2_000_000, Some(3), Compression::None));
    let web1 = of("web-1");
    assert_eq!((web1.limit, web1.max_files, web1.compression), (7, Some(3), Compression::Zstd));
    assert_eq!(serde_json::to_string(&web1.redaction).unwrap(), r#"["email","[a,b]{1,2}c"]"#);
    assert!(web1.filter.keep.is_some() && web1.format == crate::config::Format::Json);
    let db = of("db");
    assert_eq!((db.limit, db.redaction.is_empty(), db.template.to_string()), (7, true, "{log}".to_owned()));
    assert_eq!(db.format, crate::config::Format::Text, "a template is of the text format");
    assert_eq!(of("other"), base);
}

#[test]
fn mistakes_name_file_line_and_key() {
    for (text, expected) in [
        (
            "[[container]]\nname = 'a'\nlimitt = 1",
            "error: /c/config.toml:3: unknown key container.limitt; did you mean container.limit?",
        ),
        (
            "[[container]]\nname = 'a'\nenabel = true",
            "error: /c/config.toml:3: unknown key container.enabel; did you mean container.enable?",
        ),
        ("[[container]]\nname = 'a'\nlimit = 'x'", "error: /c/config.toml:3: cannot use container.limit: not a size"),
        (
            "[[container]]\nname = 'a'\nenable = 'yes'",
            "error: /c/config.toml:3: cannot use container.enable: must be true or false",
        ),
        (
            "[[container]]\nname = 'a'\nlog_path = '/x'",
            "error: /c/config.toml:3: container.log_path is for all containers; write it above the first [[container]]",
        ),
        ("[[container]]\nname = 'a[b'", "error: /c/config.toml:2: cannot use container.name: invalid glob 'a[b'"),
        ("[[container]]\nname = []", "error: /c/config.toml:2: cannot use container.name: empty"),
        (
            "[[container]]\nname = 'a'\nfilter_regex = '('",
            "error: /c/config.toml:3: cannot use container.filter_regex: no regular expression",
        ),
        ("[[container]]\nname = 'a'\nredact = ['emial']", "error: /c/config.toml:3: cannot use container.redact: "),
        ("[[container]]\nname = 'a'\ntemplate = '{lgo}'", "error: /c/config.toml:3: cannot use container.template: "),
        ("\n[[container]]\nlimit = 1", "error: /c/config.toml:2: container has no name"),
        ("[container]\nname = 'a'", "error: /c/config.toml:1: container is a section; write [[container]]"),
        ("container = 'a'", "error: /c/config.toml:1: container is a section; write [[container]]"),
        ("[[container]]\nname = 'a'\n[container.more]\na = 1", "error: /c/config.toml:3: cannot use container.more: "),
        (
            "[[container]]\nname = 'a'\nformat = 'json'\ntemplate = '{log}'",
            "error: /c/config.toml:1: container: --template shapes the text format only",
        ),
    ] {
        let error = sections(text).expect_err(text);
        assert!(error.starts_with(expected), "{text}: {error}");
        assert!(error.lines().count() <= 2, "{error}");
    }
}

#[test]
fn unchanged_lines_and_redaction_exclude_each_other() {
    let check =
        |flags: &str, text: &str| sections(text).unwrap().check(&base(flags)).map_err(|failure| failure.message);
    let docker = "[[container]]\nname = 'a*'\nformat = 'docker'\n";
    let redact = "[[container]]\nname = 'ab'\nredact = 'email'\n";
    assert!(check("", docker).is_ok() && check("", redact).is_ok());
    assert!(
        check("--redact email", docker).is_err_and(|why| why.starts_with("/c/config.toml:1: container: format docker"))
    );
    assert!(check("--format docker", redact).is_err());
    assert!(check("", &(docker.to_owned() + redact)).is_err_and(|why| why.starts_with("/c/config.toml:4: ")));
    assert!(check("", &(docker.to_owned() + &redact.replace("ab", "b"))).is_ok(), "no name matches both");
    assert!(check("--redact email", &(docker.to_owned() + "redact = 'none'\n")).is_ok());
}
