//! Where the command writes: colours only on a terminal, and a closed pipe is no error.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anstream::AutoStream;

/// How the command ended. The numbers are documented in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// The program returned, or there was nothing to run.
    Done,
    /// The program trapped.
    Trapped,
    /// A conformance case failed, or fuzzing found something.
    Failed,
    /// The command line or the input is wrong.
    Refused,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(match status {
            Status::Done => 0,
            Status::Trapped | Status::Failed => 1,
            Status::Refused => 2,
        })
    }
}

/// A writer whose reader may go away: what is written then is dropped, so that the exit status stays true.
pub(crate) struct Pipe<W: Write> {
    writer: W,
    closed: bool,
}

impl<W: Write> Pipe<W> {
    fn new(writer: W) -> Pipe<W> {
        Pipe { writer, closed: false }
    }

    fn unless_closed<T>(&mut self, result: io::Result<T>, otherwise: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(otherwise)
            }
            result => result,
        }
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        let written = self.writer.write(bytes);
        self.unless_closed(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.writer.flush();
        self.unless_closed(flushed, ())
    }
}

/// Standard output and standard error.
pub(crate) struct Output {
    /// Results.
    pub(crate) out: Pipe<BufWriter<Box<dyn Write>>>,
    /// Errors and traces.
    pub(crate) err: Pipe<BufWriter<Box<dyn Write>>>,
}

impl Output {
    /// Locks both.
    pub(crate) fn new() -> Output {
        Output::to(AutoStream::auto(io::stdout().lock()), AutoStream::auto(io::stderr().lock()))
    }

    /// These in place of the process's own.
    pub(crate) fn to(out: impl Write + 'static, err: impl Write + 'static) -> Output {
        Output { out: Pipe::new(BufWriter::new(Box::new(out))), err: Pipe::new(BufWriter::new(Box::new(err))) }
    }

    /// Writes out what is buffered, results first.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_closed_pipe_is_quiet() {
        let mut closed = Pipe::new(Failing(io::ErrorKind::BrokenPipe));
        assert!(closed.write_all(b"lost").is_ok() && closed.flush().is_ok());
        let mut full = Pipe::new(Failing(io::ErrorKind::StorageFull));
        assert!(full.write_all(b"lost").is_err());
    }
}
