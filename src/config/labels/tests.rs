use super::*;
use crate::cli::{Cli, Command};
use clap::Parser;

/// What the labels make of these flags, and what is said against them.
fn treated(flags: &str, labels: &[(&str, &str)]) -> (Treatment, Vec<String>) {
    let words = ["longshore", "run"].into_iter().chain(flags.split_whitespace());
    let Command::Run(flags) = Cli::try_parse_from(words).unwrap().into_command() else { unreachable!("it says run") };
    let mut treatment = Treatment::of(&flags).unwrap();
    let labels = labels.iter().map(|(key, value)| (format!("longshore.{key}"), (*value).to_owned())).collect();
    let metadata = Metadata { name: "web".into(), labels, ..Metadata::default() };
    let bad = apply(&mut treatment, &metadata);
    (treatment, bad)
}

#[test]
fn good_labels_are_taken() {
    let (treatment, bad) = treated(
        "--limit 1MB",
        &[
            ("enable", "yes"),
            ("limit", "2MB"),
            ("max-files", "3"),
            ("compression", "zstd"),
            ("template", "{name} {log}"),
            ("filter-regex", "a"),
            ("exclude-regex", "b"),
        ],
    );
    assert_eq!(bad, [""; 0]);
    assert_eq!((treatment.limit, treatment.max_files), (2_000_000, Some(3)));
    assert_eq!((treatment.compression, treatment.template.to_string()), (Compression::Zstd, "{name} {log}".into()));
    let pattern = |typed: &str| Some(typed.parse().unwrap());
    assert_eq!((treatment.filter.keep, treatment.filter.exclude), (pattern("a"), pattern("b")));
}

#[test]
fn a_bad_one_is_named_and_only_it_is_ignored() {
    let long = "x".repeat(LABEL_BYTES_MAX + 1);
    let costly = r"\w{300}\w{300}";
    let wide = "{label.longshore.none}".repeat(40) + &"x".repeat(100);
    for (label, value, expected) in [
        ("enable", "perhaps", "neither true nor false"),
        ("limit", "10", "must be from 65.5 kB to 1.0 GB"),
        ("limit", "5GB", "must be from 65.5 kB to 1.0 GB"),
        ("limit", "much", "not a size"),
        ("max-files", "0", "not a number above zero"),
        ("max-files", "-1", "not a number above zero"),
        ("compression", "rar", "must be none, gzip or zstd"),
        ("template", "{lgo}", "unknown tag {lgo}; did you mean {log}?"),
        ("template", "{\u{1b}[2J}", "unknown tag {?[2J}"),
        ("template", "{log}{log}", "{log} may stand in it once"),
        ("template", &long, "longer than 1024 bytes"),
        ("filter-regex", "(", "no regular expression"),
        ("filter-regex", costly, "too large a regular expression"),
        ("exclude-regex", "", "empty"),
    ] {
        let (treatment, bad) =
            treated("", &[(label, value), (if label == "limit" { "max-files" } else { "limit" }, "700000")]);
        assert_eq!(bad.len(), 1, "{label}={value}: {bad:?}");
        assert!(bad[0].starts_with(&format!("longshore.{label}: {expected}")), "{bad:?}");
        assert!(treatment.limit == 700_000 || treatment.max_files == Some(700_000), "the other one counts");
    }
    assert_eq!(treated("", &[("template", &wide)]).1, [""; 0], "empty values add nothing");
    let (_, bad) = treated("--format json", &[("template", "{log}")]);
    assert_eq!(bad, ["longshore.template: shapes the text format, and this output has another"]);
}

#[test]
fn labels_part_the_room_that_there_is_and_take_no_more() {
    let room = "--limit 1MB --max-files 10";
    let (treatment, bad) = treated(room, &[("limit", "5MB"), ("max-files", "2")]);
    assert_eq!((treatment.limit, treatment.max_files, bad.len()), (5_000_000, Some(2), 0));
    let (treatment, bad) = treated(room, &[("limit", "5MB"), ("max-files", "3")]);
    assert_eq!((treatment.limit, treatment.max_files), (1_000_000, Some(3)));
    assert_eq!(bad, ["longshore.limit: limit times max-files would be 15.0 MB, more than the 10.0 MB allowed"]);
    let (treatment, bad) = treated(room, &[("max-files", "11")]);
    assert_eq!((treatment.max_files, bad.len()), (Some(10), 1));
    let (treatment, bad) = treated(room, &[("max-files", "100"), ("limit", "100kB")]);
    assert_eq!((treatment.limit, treatment.max_files, bad.len()), (100_000, Some(100), 0));
    let (treatment, bad) = treated(room, &[("max-files", "101"), ("limit", "100kB")]);
    assert_eq!((treatment.limit, treatment.max_files, bad.len()), (100_000, Some(10), 1));
}
