//! A batch as it goes over the wire: records in their framing, compressed. The same records always give the same bytes.

use std::io::{self, Read, Write};

use hyper::body::Bytes;

use crate::forward::mark::Mark;
use crate::forward::pending::SEPARATOR;

/// How records are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `[…,…]`
    Array,
    /// One a line.
    Lines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip { level: u32 },
    Zstd { level: i32 },
}

/// How a sink's requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub framing: Framing,
    pub compression: Compression,
}

/// Records of one container in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub container: String,
    pub n: usize,
}

/// A batch's records, each followed by [`SEPARATOR`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    pub bytes: Vec<u8>,
    pub ends: Vec<u32>,
    pub marks: Vec<Mark>,
    pub runs: Vec<Run>,
}

/// A batch that is ready to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub id: String,
    pub wire: Bytes,
    /// Bytes before compression.
    pub plain_bytes: u64,
    ends: Vec<u32>,
    marks: Vec<Mark>,
    runs: Vec<Run>,
}

impl Payload {
    /// Made of the first and the last record of each container in it, so that no two batches share it.
    pub fn id(&self) -> String {
        let mut text = Vec::new();
        let mut start = 0;
        for run in &self.runs {
            for mark in [self.marks[start], self.marks[start + run.n - 1]] {
                mark.append_id(&run.container, &mut text);
                text.push(b' ');
            }
            start += run.n;
        }
        format!("{:032x}", twox_hash::XxHash3_128::oneshot(&text))
    }

    pub fn n_records(&self) -> usize {
        self.marks.len()
    }

    /// Puts the records of another behind these.
    pub fn append(&mut self, other: Payload) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| start + end));
        self.marks.extend(other.marks);
        self.runs.extend(other.runs);
    }

    pub fn into_body(mut self, form: Form) -> Body {
        let id = self.id();
        let plain_bytes = self.bytes.len() as u64;
        let opening: &[u8] = match form.framing {
            Framing::Array => self.frame_array(),
            Framing::Lines => b"",
        };
        let mut wire = compress(opening, self.bytes, form.compression);
        wire.shrink_to_fit();
        Body { id, wire: wire.into(), plain_bytes, ends: self.ends, marks: self.marks, runs: self.runs }
    }

    /// Between the brackets each separator becomes a comma. Gives the opening one: to put it before all would move them.
    fn frame_array(&mut self) -> &'static [u8] {
        for end in &self.ends {
            self.bytes[*end as usize - 1] = b',';
        }
        match self.bytes.last_mut() {
            Some(last) => *last = b']',
            None => self.bytes.push(b']'),
        }
        b"["
    }

    /// The first `n` records, and the rest.
    pub fn split(self, n: usize) -> (Payload, Payload) {
        let at = if n == 0 { 0 } else { self.ends[n - 1] };
        let (mut left, mut right) = (Payload::default(), Payload::default());
        left.bytes = self.bytes[..at as usize].to_vec();
        right.bytes = self.bytes[at as usize..].to_vec();
        left.ends = self.ends[..n].to_vec();
        right.ends = self.ends[n..].iter().map(|end| end - at).collect();
        left.marks = self.marks[..n].to_vec();
        right.marks = self.marks[n..].to_vec();
        let mut room = n;
        for run in self.runs {
            let taken = run.n.min(room);
            room -= taken;
            if taken > 0 {
                left.runs.push(Run { container: run.container.clone(), n: taken });
            }
            if taken < run.n {
                right.runs.push(Run { n: run.n - taken, container: run.container });
            }
        }
        (left, right)
    }
}

impl Body {
    pub fn n_records(&self) -> usize {
        self.marks.len()
    }

    /// The records again, for a batch that has to be cut.
    pub fn payload(&self, form: Form) -> io::Result<Payload> {
        let mut bytes = decompress(&self.wire, form.compression)?;
        if form.framing == Framing::Array {
            bytes.remove(0);
            for end in &self.ends {
                bytes[*end as usize - 1] = SEPARATOR;
            }
        }
        Ok(Payload { bytes, ends: self.ends.clone(), marks: self.marks.clone(), runs: self.runs.clone() })
    }

    /// The id of its first record.
    pub fn first_record(&self) -> String {
        let mut id = Vec::new();
        if let (Some(mark), Some(run)) = (self.marks.first(), self.runs.first()) {
            mark.append_id(&run.container, &mut id);
        }
        String::from_utf8_lossy(&id).into_owned()
    }
}

fn compress(opening: &[u8], mut bytes: Vec<u8>, compression: Compression) -> Vec<u8> {
    const IN_MEMORY: &str = "writing into memory cannot fail";
    match compression {
        Compression::None => {
            bytes.splice(..0, opening.iter().copied());
            bytes
        }
        Compression::Gzip { level } => {
            let out = Vec::with_capacity(bytes.len() / 4);
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(level));
            encoder.write_all(opening).expect(IN_MEMORY);
            encoder.write_all(&bytes).expect(IN_MEMORY);
            encoder.finish().expect(IN_MEMORY)
        }
        Compression::Zstd { level } => {
            bytes.splice(..0, opening.iter().copied());
            zstd::bulk::compress(&bytes, level).expect("zstd compresses anything")
        }
    }
}

fn decompress(wire: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(wire.to_vec()),
        Compression::Gzip { .. } => {
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(wire).read_to_end(&mut bytes)?;
            Ok(bytes)
        }
        Compression::Zstd { .. } => zstd::stream::decode_all(wire),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(n: usize) -> Payload {
        let mut payload = Payload::default();
        for ix in 0..n {
            payload.bytes.extend_from_slice(format!("{{\"line\":\"number {ix}\"}}").as_bytes());
            payload.bytes.push(SEPARATOR);
            payload.ends.push(payload.bytes.len() as u32);
            payload.marks.push(Mark::line(1, ix as u64 * 100));
        }
        payload.runs = vec![Run { container: "a".into(), n: n / 3 }, Run { container: "b".into(), n: n - n / 3 }];
        payload.runs.retain(|run| run.n > 0);
        payload
    }

    const FORMS: [(Framing, Compression); 5] = [
        (Framing::Array, Compression::None),
        (Framing::Array, Compression::Gzip { level: 1 }),
        (Framing::Array, Compression::Zstd { level: 3 }),
        (Framing::Lines, Compression::None),
        (Framing::Lines, Compression::Gzip { level: 6 }),
    ];

    #[test]
    fn what_was_put_together_comes_apart_again() {
        for (framing, compression) in FORMS {
            let form = Form { framing, compression };
            let body = payload(20).into_body(form);
            assert_eq!(body, payload(20).into_body(form), "the same bytes each time");
            assert_eq!(body.payload(form).unwrap(), payload(20));
            let wire = decompress(&body.wire, compression).unwrap();
            let n = match framing {
                Framing::Array => serde_json::from_slice::<Vec<serde_json::Value>>(&wire).unwrap().len(),
                Framing::Lines => wire.split_inclusive(|byte| *byte == b'\n').count(),
            };
            assert_eq!(n, 20);
        }
    }

    #[test]
    fn an_id_is_of_its_bounds() {
        let ids: Vec<String> = (1..20).map(|n| payload(n).id()).collect();
        assert!(ids.iter().all(|id| id.len() == 32) && ids.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(payload(5).id(), payload(5).id());
        let mut other = payload(5);
        other.runs[0].container = "c".into();
        assert_ne!(other.id(), payload(5).id());
    }

    #[test]
    fn halves_hold_what_the_whole_held() {
        for n in 1..20 {
            let (left, right) = payload(20).split(n);
            assert_eq!((left.n_records(), right.n_records()), (n, 20 - n));
            assert_eq!([left.bytes.clone(), right.bytes.clone()].concat(), payload(20).bytes);
            assert_eq!(*right.ends.last().unwrap() as usize, right.bytes.len());
            assert_eq!(left.runs.iter().map(|run| run.n).sum::<usize>(), n);
            assert_eq!(right.runs.iter().map(|run| run.n).sum::<usize>(), 20 - n);
        }
    }
}
