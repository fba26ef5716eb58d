//! Templates as typed and metadata as found, both arbitrary: no panic, an error of one line, no line that a value
//! breaks in two, and no path that leaves the log-path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore::discover::PathTemplate;
use longshore::format::{Metadata, Part, Template, VALUE_BYTES_MAX};
use longshore_fuzz::assert_stays_below;

fuzz_target!(|input: &[u8]| {
    // Fields are separated by a byte that UTF-8 doesn't have.
    let mut fields = input.split(|byte| *byte == 0xff).map(|field| String::from_utf8_lossy(field).into_owned());
    let mut next = || fields.next().unwrap_or_default();
    let typed = next();
    let other_name = next();
    let mut metadata =
        Metadata { name: next(), id: next(), image: next(), image_id: next(), hostname: next(), ..Metadata::default() };
    for key in ["a", "io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name"] {
        let value = next();
        if !value.is_empty() {
            metadata.labels.insert(key.to_owned(), value);
        }
    }
    metadata.env.insert("E".to_owned(), next());

    template(&typed, &metadata);
    path_template(&typed, &metadata);
    let by_name = PathTemplate::parse("{name}/{name}.log").expect("the default");
    assert_stays_below(&by_name.route(&metadata));
    if other_name != metadata.name {
        let other = Metadata { name: other_name, ..metadata.clone() };
        assert_ne!(by_name.route(&metadata), by_name.route(&other), "{:?} and {:?}", metadata.name, other.name);
    }
});

fn template(typed: &str, metadata: &Metadata) {
    let template = match Template::parse(typed) {
        Ok(template) => template,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(template.to_string(), typed);
    let n_tags = template.tags().count();
    let mut last_was_literal = false;
    let mut literal_bytes = 0;
    for part in template.resolve(metadata) {
        let Part::Literal(literal) = part else {
            last_was_literal = false;
            continue;
        };
        assert!(!literal.is_empty() && !last_was_literal);
        assert!(!literal.contains(&b'\n'), "a record is one line");
        literal_bytes += literal.len();
        last_was_literal = true;
    }
    assert!(literal_bytes <= typed.len() + n_tags * VALUE_BYTES_MAX);
}

fn path_template(typed: &str, metadata: &Metadata) {
    match PathTemplate::parse(typed) {
        Ok(template) => {
            assert_eq!(template.to_string(), typed);
            assert_stays_below(&template.route(metadata));
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(error.hint().is_none_or(|hint| !hint.is_empty()));
        }
    }
}
