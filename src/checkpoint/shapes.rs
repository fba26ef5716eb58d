//! Equal shapes once in memory: thousands of containers have the same.

use std::sync::Arc;

use crate::shape::Shape;

/// More different ones than this at a time are not shared: looking for an equal one would cost more than it saves.
const KEPT_MAX: usize = 32;

/// The shapes met last.
#[derive(Clone, Debug, Default)]
pub struct Shapes(Vec<Arc<Shape>>);

impl Shapes {
    /// The one that is equal to `shape`.
    pub fn share(&mut self, shape: impl Into<Arc<Shape>>) -> Arc<Shape> {
        let shape = shape.into();
        if let Some(known) = self.0.iter().find(|known| **known == shape) {
            return known.clone();
        }
        if self.0.len() == KEPT_MAX {
            self.0.remove(0);
        }
        self.0.push(shape.clone());
        shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Formatter;

    fn shape(max_line_bytes: u64) -> Shape {
        let formatter = Formatter::Docker;
        Shape { formatter, max_line_bytes, since_ns: None, filter: Default::default(), redaction: Default::default() }
    }

    #[test]
    fn equal_shapes_are_one_and_the_latest_are_kept() {
        let mut shapes = Shapes::default();
        let first = shapes.share(shape(0));
        assert!(Arc::ptr_eq(&first, &shapes.share(shape(0))));
        for max_line_bytes in 1..=KEPT_MAX as u64 {
            assert_eq!(*shapes.share(shape(max_line_bytes)), shape(max_line_bytes));
        }
        assert_eq!(shapes.0.len(), KEPT_MAX);
        assert!(!Arc::ptr_eq(&first, &shapes.share(shape(0))));
    }
}
