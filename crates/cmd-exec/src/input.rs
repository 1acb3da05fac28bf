//! Standard input on its way to one command or to many.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use ops_remote::exec::Stdin;
use ops_ui::{Error, Output, Result, stdio};
use tokio::{sync::mpsc, task::JoinHandle};

/// Pieces that wait for the slowest server; each holds at most 64 KiB.
const AHEAD: usize = 4;

/// Whether there is an input to be sent. A terminal is one only if that was asked for: what is
/// typed ahead for the shell that started `ops` stays the shell's.
pub(crate) fn is_given(output: &Output, no_stdin: bool, interactive: bool) -> bool {
    if no_stdin {
        return false;
    }
    if output.stdin_is_terminal() {
        return interactive;
    }
    !stdio::stdin_is_empty()
}

/// What a command reads, piece by piece.
pub(crate) enum InputPiece {
    Bytes(Bytes),
    /// All of it has been given.
    End,
}

/// One reader of standard input, and a queue to each server.
pub(crate) struct InputHub {
    queues: Mutex<Vec<Option<mpsc::Receiver<InputPiece>>>>,
    reader: JoinHandle<()>,
}

impl InputHub {
    /// Reads from now on for so many servers, at the pace of the slowest. `failed` is told when the
    /// input cannot be read any more: no command is given an end of input then.
    pub(crate) fn start(servers: usize, failed: impl FnOnce(io::Error) + Send + 'static) -> Self {
        Self::read_from(stdio::read_stdin(), servers, failed)
    }

    fn read_from(
        mut input: mpsc::Receiver<io::Result<Bytes>>,
        servers: usize,
        failed: impl FnOnce(io::Error) + Send + 'static,
    ) -> Self {
        let (senders, queues): (Vec<_>, Vec<_>) = (0..servers)
            .map(|_| {
                let (sender, queue) = mpsc::channel(AHEAD);
                (sender, Some(queue))
            })
            .unzip();
        let reader = tokio::spawn(async move {
            // Whose command has ended or reads no more is left out from then on.
            let mut senders: Vec<mpsc::Sender<InputPiece>> = senders;
            while let Some(piece) = input.recv().await {
                let bytes = match piece {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        failed(error);
                        // The queues stay open: their commands must not read an end.
                        return std::future::pending().await;
                    }
                };
                let mut left = Vec::with_capacity(senders.len());
                for sender in senders {
                    if sender.send(InputPiece::Bytes(bytes.clone())).await.is_ok() {
                        left.push(sender);
                    }
                }
                senders = left;
                if senders.is_empty() {
                    return;
                }
            }
            for sender in senders {
                let _ = sender.send(InputPiece::End).await;
            }
        });
        Self {
            queues: Mutex::new(queues),
            reader,
        }
    }

    /// The queue to the server with this number, once. Dropped, the others do not wait for it.
    pub(crate) fn take(&self, host: usize) -> Option<mpsc::Receiver<InputPiece>> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.get_mut(host)?.take()
    }
}

impl Drop for InputHub {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Hands what comes in `queue` to a command, until that reads no more.
pub(crate) async fn feed(mut queue: mpsc::Receiver<InputPiece>, mut stdin: Stdin) {
    while let Some(piece) = queue.recv().await {
        let sent = match piece {
            InputPiece::Bytes(bytes) => stdin.send(bytes).await,
            InputPiece::End => {
                let _ = stdin.end().await;
                return;
            }
        };
        if sent.is_err() {
            // It reads no more, which is no failure: `yes | head -1` ends well.
            return;
        }
    }
    // Without its end the input stays open until the command is ended.
    std::future::pending::<()>().await;
}

/// A task that ends with this value.
pub(crate) struct Feeding(JoinHandle<()>);

impl Feeding {
    /// Feeds a command from `queue` beside everything else.
    pub(crate) fn start(queue: mpsc::Receiver<InputPiece>, stdin: Stdin) -> Self {
        Self(tokio::spawn(feed(queue, stdin)))
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps the error of a reader until somebody asks for it.
#[derive(Clone, Default)]
pub(crate) struct ReadFailure(Arc<Mutex<Option<io::Error>>>);

impl ReadFailure {
    pub(crate) fn keep(&self, error: io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// # Errors
    /// Standard input could not be read to its end.
    pub(crate) fn check(&self) -> Result<()> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match kept {
            None => Ok(()),
            Some(error) => Err(Error::unexpected("standard input cannot be read").caused_by(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all_of(mut queue: mpsc::Receiver<InputPiece>) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        while let Some(piece) = queue.recv().await {
            match piece {
                InputPiece::Bytes(piece) => bytes.extend_from_slice(&piece),
                InputPiece::End => return (bytes, true),
            }
        }
        (bytes, false)
    }

    #[tokio::test]
    async fn each_server_gets_all_of_it_and_who_reads_no_more_holds_up_nobody() {
        let (sender, input) = mpsc::channel(1);
        let hub = InputHub::read_from(input, 3, |_| {});
        // The second never reads, and ends; the third begins late.
        let first = tokio::spawn(all_of(hub.take(0).expect("a queue")));
        drop(hub.take(1));
        for byte in 0..20_u8 {
            if byte == 3 {
                let late = hub.take(2).expect("a queue");
                tokio::spawn(async move { assert_eq!(all_of(late).await.0.len(), 20) });
            }
            sender
                .send(Ok(Bytes::copy_from_slice(&[byte])))
                .await
                .expect("a reader");
        }
        drop(sender);
        let (bytes, ended) = first.await.expect("an end");
        assert_eq!(bytes, (0..20).collect::<Vec<u8>>());
        assert!(ended);
        assert!(hub.take(0).is_none(), "a queue has one reader");
    }

    #[tokio::test]
    async fn an_input_that_breaks_off_is_no_end() {
        let (sender, input) = mpsc::channel(1);
        let failure = ReadFailure::default();
        let told = failure.clone();
        let (broke, broken) = tokio::sync::oneshot::channel();
        let hub = InputHub::read_from(input, 1, move |error| {
            told.keep(error);
            let _ = broke.send(());
        });
        let mut queue = hub.take(0).expect("a queue");
        sender
            .send(Err(io::Error::other("gone")))
            .await
            .expect("a reader");
        broken.await.expect("told");
        assert!(queue.try_recv().is_err());
        assert!(failure.check().is_err());
        drop(hub);
    }
}
