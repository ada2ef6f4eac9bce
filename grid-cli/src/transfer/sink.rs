//! Takes a blob that arrives in pieces: decompresses, counts and hashes it on its way to a writer.

use std::io::{self, Write};

use grid_core::{Digest, Hasher};

/// Takes one blob. Not one byte more than the digest says gets through, whatever a compressed stream claims.
pub(crate) struct Sink<W: Write> {
    expected: Digest,
    state: State<W>,
}

enum State<W: Write> {
    Plain(Checked<W>),
    Zstd(zstd::stream::write::Decoder<'static, Checked<W>>),
}

impl<W: Write> Sink<W> {
    /// For the blob `expected`, into `writer`.
    pub(crate) fn new(expected: Digest, writer: W) -> Self {
        let checked = Checked { writer, hasher: Hasher::new(expected.function()), limit: expected.size() };
        Self { expected, state: State::Plain(checked) }
    }

    /// Content bytes that are through.
    pub(crate) fn received(&self) -> u64 {
        match &self.state {
            State::Plain(checked) => checked.hasher.size(),
            State::Zstd(decoder) => decoder.get_ref().hasher.size(),
        }
    }

    /// A new answer begins at [`Self::received`], compressed or not.
    pub(crate) fn begin(self, zstd: bool) -> io::Result<Self> {
        let checked = match self.state {
            State::Plain(checked) => checked,
            State::Zstd(mut decoder) => {
                decoder.flush()?;
                decoder.into_inner()
            }
        };
        let state = if zstd {
            State::Zstd(zstd::stream::write::Decoder::new(checked)?)
        } else {
            State::Plain(checked)
        };
        Ok(Self { expected: self.expected, state })
    }

    /// One more piece as it came.
    pub(crate) fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.state {
            State::Plain(checked) => checked.write_all(piece),
            State::Zstd(decoder) => decoder.write_all(piece),
        }
    }

    /// The answer ended: gives what the blob turned out to be, and the writer.
    pub(crate) fn finish(self) -> io::Result<(Digest, W)> {
        let mut checked = match self.state {
            State::Plain(checked) => checked,
            State::Zstd(mut decoder) => {
                decoder.flush()?;
                decoder.into_inner()
            }
        };
        checked.writer.flush()?;
        Ok((checked.hasher.finish(), checked.writer))
    }
}

struct Checked<W> {
    writer: W,
    hasher: Hasher,
    limit: u64,
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.hasher.size() + piece.len() as u64 > self.limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more content than the digest says"));
        }
        self.writer.write_all(piece)?;
        self.hasher.update(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use grid_core::DigestFunction;

    use super::*;

    const CONTENT: &[u8] = &[b'x'; 100_000];

    fn digest() -> Digest {
        Digest::of(DigestFunction::Sha256, CONTENT)
    }

    #[test]
    fn an_answer_that_broke_off_goes_on_where_it_stopped() {
        let mut sink = Sink::new(digest(), Vec::new()).begin(true).unwrap();
        let packed = zstd::bulk::compress(&CONTENT[..40_000], 1).unwrap();
        sink.take(&packed).unwrap();
        let mut sink = sink.begin(false).unwrap();
        let reached = usize::try_from(sink.received()).unwrap();
        assert_eq!(reached, 40_000);
        CONTENT[reached..].chunks(999).for_each(|piece| sink.take(piece).unwrap());
        let (found, written) = sink.finish().unwrap();
        assert_eq!(found, digest());
        assert_eq!(written, CONTENT);
    }

    #[test]
    fn a_bomb_is_stopped_at_the_digests_size() {
        let bomb = zstd::bulk::compress(&vec![0; 50 << 20], 1).unwrap();
        let mut sink = Sink::new(digest(), Vec::new()).begin(true).unwrap();
        assert_eq!(sink.take(&bomb).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(sink.received() <= CONTENT.len() as u64);
    }

    #[test]
    fn other_content_of_the_same_size_is_told_apart() {
        let mut sink = Sink::new(digest(), io::sink());
        sink.take(&vec![b'y'; CONTENT.len()]).unwrap();
        assert_ne!(sink.finish().unwrap().0, digest());
    }
}
