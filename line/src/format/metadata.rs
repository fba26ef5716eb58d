//! What is known of a container, as far as a template can ask for it.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::template::Tag;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Without Docker's leading slash.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// As the operator typed it, `nginx:1.27`.
    pub image: String,
    pub image_id: String,
    /// The node's, not the container's.
    pub hostname: String,
    pub labels: BTreeMap<String, String>,
    pub env: BTreeMap<String, String>,
}

/// A value in a template may take this many bytes: it is repeated on every line.
pub const VALUE_BYTES_MAX: usize = 4 * 1024;

impl Metadata {
    /// The first 12 digits, as `docker ps` shows them.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    pub fn namespace(&self) -> Option<&str> {
        self.label("io.kubernetes.pod.namespace")
    }

    pub fn pod(&self) -> Option<&str> {
        self.label("io.kubernetes.pod.name")
    }

    pub fn container(&self) -> Option<&str> {
        self.label("io.kubernetes.container.name")
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    /// None: not known of this container, or different for each record.
    pub fn value(&self, tag: &Tag) -> Option<&str> {
        match tag {
            Tag::Log | Tag::Time | Tag::Timestamp | Tag::Stream => None,
            Tag::Name => Some(&self.name),
            Tag::Id => Some(&self.id),
            Tag::ShortId => Some(self.short_id()),
            Tag::Image => Some(&self.image),
            Tag::ImageId => Some(&self.image_id),
            Tag::Hostname => Some(&self.hostname),
            Tag::Label(key) => self.label(key),
            Tag::Env(key) => self.env.get(key).map(String::as_str),
            Tag::Namespace => self.namespace(),
            Tag::Pod => self.pod(),
            Tag::Container => self.container(),
        }
    }
}

/// A value fit for the middle of a line: no byte that would end it, and bounded.
pub(super) fn clean(value: &str) -> Cow<'_, str> {
    let value = &value[..value.floor_char_boundary(VALUE_BYTES_MAX)];
    if value.contains(['\n', '\r', '\0']) { value.replace(['\n', '\r', '\0'], " ").into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_values() {
        assert_eq!(clean("a\nb\r\nc\0"), "a b  c ");
        assert_eq!(clean(&"a".repeat(5000)).len(), 4096);
        assert_eq!(clean(&"ž\u{65e5}".repeat(1000)).len(), 4095);
    }

    #[test]
    fn short_id() {
        let id = |id: &str| Metadata { id: id.into(), ..Metadata::default() };
        assert_eq!(id("0123456789abcdef").short_id(), "0123456789ab");
        assert_eq!(id("0123").short_id(), "0123");
    }
}
