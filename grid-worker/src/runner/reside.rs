//! A command that stays: a persistent worker, which is given one piece of work after the other on its standard input
//! and answers on its standard output.
//!
//! Between two pieces of work all its processes are stopped: what it left running can't touch what it made, nor what
//! the next action finds. Whatever is not as the protocol has it ends it. Neighbours: `supervise` starts it, `residents`
//! brings the work, [`crate::work_protocol`] reads the answers.

use std::io::{BufRead, BufReader, Read, Stdin, Write};
use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::supervise::{Watched, exceeded, patience, say};
use super::task::{End, Job, Limits, Report, Usage};
use crate::work_protocol::{Form, WorkResponse};

/// The longest answer.
const LONGEST_ANSWER: usize = 16 << 20;
const PIECE: usize = 64 << 10;

/// The command's ends of the conversation.
pub(super) struct Pipes {
    pub(super) to: ChildStdin,
    pub(super) from: ChildStdout,
}

/// A command that stays.
pub(super) struct Resident<'a> {
    pub(super) pid: Pid,
    pub(super) pipes: Pipes,
    pub(super) form: Form,
    pub(super) watched: &'a mut Watched,
}

/// What came of a piece of work.
enum Outcome {
    Answered(WorkResponse),
    Over(End),
}

/// Gives the command its work until it ends or nobody has more, and leaves nothing of it alive. Answers are said as
/// they come; how it ended is the result.
pub(super) fn reside(input: &mut BufReader<Stdin>, mut resident: Resident<'_>) -> anyhow::Result<End> {
    let end = resident.serve(input);
    resident.watched.tree.end_all(resident.pid);
    end
}

impl Resident<'_> {
    fn serve(&mut self, input: &mut BufReader<Stdin>) -> anyhow::Result<End> {
        let process =
            pidfd_open(self.pid, PidfdFlags::empty()).context("pidfd_open: Linux 5.3 or later is needed")?;
        ioctl_fionbio(&self.pipes.to, true)?;
        ioctl_fionbio(&self.pipes.from, true)?;
        loop {
            let Some((job, request)) = next(input, &process)? else {
                return Ok(End::Broken("it ended".to_owned()));
            };
            self.watched.tree.resume_below(getpid());
            match self.work(&job.limits, &request, input.get_ref(), &process)? {
                Outcome::Over(end) => return Ok(end),
                Outcome::Answered(WorkResponse { exit_code, output, .. }) => {
                    self.watched.tree.stop_below(getpid());
                    say(&Report { end: End::Answered { exit_code, output }, usage: Usage::default() })?;
                }
            }
        }
    }

    /// Carries a request to the command, and its answer back.
    fn work(
        &mut self,
        limits: &Limits,
        request: &[u8],
        lifeline: &Stdin,
        process: &OwnedFd,
    ) -> anyhow::Result<Outcome> {
        let deadline = limits.timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        let (mut left, mut said) = (request, Vec::new());
        let broken = |how: &str| Ok(Outcome::Over(End::Broken(how.to_owned())));
        loop {
            // Without anything left to write, only errors of that end are news.
            let wanted = if left.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let mut fds = [
                PollFd::new(&self.pipes.from, PollFlags::IN),
                PollFd::new(&self.pipes.to, wanted),
                PollFd::new(lifeline, PollFlags::IN),
                PollFd::new(process, PollFlags::IN),
            ];
            match poll(&mut fds, patience(deadline, limits).as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [from, to, lifeline, process] = fds.map(|fd| fd.revents());
            if !from.is_empty() {
                if self.hear(&mut said)? == 0 {
                    return broken("it closed its standard output");
                }
                match self.form.read(&said, LONGEST_ANSWER) {
                    Ok(None) => {}
                    Ok(Some(_)) if !left.is_empty() => return broken("it answered what it had not heard"),
                    Ok(Some(answer)) => return Ok(Outcome::Answered(answer)),
                    Err(error) => return broken(&error.to_string()),
                }
            } else if !process.is_empty() {
                return broken("it ended");
            }
            if to.contains(PollFlags::OUT) {
                match self.pipes.to.write(&left[..left.len().min(PIECE)]) {
                    Ok(count) => left = &left[count..],
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return broken("it closed its standard input"),
                }
            }
            if !lifeline.is_empty() {
                return Ok(Outcome::Over(End::Abandoned));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Outcome::Over(End::TimedOut));
            }
            if let Some(what) = exceeded(self.watched, limits) {
                return broken(&what);
            }
        }
    }

    /// Reads what the command says; 0 where it says no more.
    fn hear(&mut self, said: &mut Vec<u8>) -> anyhow::Result<usize> {
        let before = said.len();
        said.resize(before + PIECE, 0);
        let count = match self.pipes.from.read(&mut said[before..]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                said.truncate(before);
                return Ok(1);
            }
            read => read?,
        };
        said.truncate(before + count);
        Ok(count)
    }
}

/// The next piece of work; `None` where the command ended meanwhile, or nobody has more.
fn next(input: &mut BufReader<Stdin>, process: &OwnedFd) -> anyhow::Result<Option<(Job, Vec<u8>)>> {
    if input.buffer().is_empty() {
        let mut fds = [PollFd::new(input.get_ref(), PollFlags::IN), PollFd::new(process, PollFlags::IN)];
        while let Err(error) = poll(&mut fds, None) {
            if error != Errno::INTR {
                return Err(error.into());
            }
        }
        if !fds[1].revents().is_empty() {
            return Ok(None);
        }
    }
    let mut line = String::new();
    if input.read_line(&mut line).context("reading a piece of work")? == 0 {
        return Ok(None);
    }
    let job: Job = serde_json::from_str(&line).context("parsing a piece of work")?;
    let mut request = vec![0; job.bytes];
    input.read_exact(&mut request).context("reading a request")?;
    Ok(Some((job, request)))
}
