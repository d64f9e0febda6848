//! The queue of idle instances of a pipe: which one the next client gets, and when to create
//! others.
//!
//! The kernel gives a client the instance that has been listening for longest. So the queue is in
//! the order in which the instances were created, and a server accepts from its head.
//!
//! A name exists as long as one of its instances. So the queue is never empty while its listener
//! exists: an instance leaves it only when there is another.

use std::collections::VecDeque;

/// The instances from which no client has been accepted yet, oldest first.
#[derive(Debug)]
pub(crate) struct Backlog<I> {
    idle: VecDeque<I>,
    size: usize,
}

impl<I> Backlog<I> {
    /// Starts with the instance that took the name. `size` is the number of instances to keep.
    pub(crate) fn new(first: I, size: usize) -> Backlog<I> {
        let mut idle = VecDeque::with_capacity(size);
        idle.push_back(first);
        Backlog { idle, size }
    }

    /// Creates instances until there are as many as there should be.
    pub(crate) fn fill<E>(&mut self, make: impl FnMut() -> Result<I, E>) -> Result<(), E> {
        self.fill_up_to(self.size, make)
    }

    fn fill_up_to<E>(
        &mut self,
        size: usize,
        mut make: impl FnMut() -> Result<I, E>,
    ) -> Result<(), E> {
        while self.idle.len() < size {
            self.idle.push_back(make()?);
        }
        Ok(())
    }

    /// The instance that the next client gets, or none once the queue is closed.
    ///
    /// It stays in the queue while a call waits for its client. Whatever the result of the wait, a
    /// client that has connected is there for the next call.
    pub(crate) fn head(&self) -> Option<&I> {
        self.idle.front()
    }

    /// Removes the head, whose client has connected, after creating another instance if it was the
    /// last.
    ///
    /// An error means that the head is the last instance and no other can be created. It keeps its
    /// client, and a later call may succeed. If only some of the missing instances can be created,
    /// a later call creates the others.
    pub(crate) fn accept<E>(
        &mut self,
        mut make: impl FnMut() -> Result<I, E>,
    ) -> Result<Option<I>, E> {
        if self.idle.is_empty() {
            return Ok(None);
        }
        self.fill_up_to(2, &mut make)?;
        let head = self.idle.pop_front();
        let _ = self.fill(make);
        Ok(head)
    }

    /// Replaces the instances that are `outdated`. Instances with a client must not be.
    ///
    /// The new instance is created first, so nothing is lost if that fails. If `at_limit` says that
    /// there may be no more instances, an old one is closed to make room, unless it's the last.
    ///
    /// The error is the last one that left an old instance in place, or removed it without a
    /// replacement. A later call tries again.
    pub(crate) fn renew<E>(
        &mut self,
        mut outdated: impl FnMut(&I) -> bool,
        mut make: impl FnMut() -> Result<I, E>,
        at_limit: impl Fn(&E) -> bool,
    ) -> Result<(), E> {
        let mut result = Ok(());
        let mut at = 0;
        for _ in 0..self.idle.len() {
            if !outdated(&self.idle[at]) {
                at += 1;
                continue;
            }
            match make() {
                Ok(new) => {
                    self.idle.push_back(new);
                    self.idle.remove(at);
                }
                Err(error) if at_limit(&error) && self.idle.len() > 1 => {
                    self.idle.remove(at);
                    match make() {
                        Ok(new) => self.idle.push_back(new),
                        Err(error) => result = Err(error),
                    }
                }
                Err(error) => {
                    result = Err(error);
                    at += 1;
                }
            }
        }
        result
    }

    /// Passes all instances to the caller, and the name with them.
    pub(crate) fn close(&mut self) -> VecDeque<I> {
        std::mem::take(&mut self.idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Why another instance can't be created.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Refusal {
        Limit,
        Memory,
    }

    /// A pipe as the kernel sees it: every instance, in the queue or not.
    #[derive(Default)]
    struct Kernel {
        limit: usize,
        has_memory: bool,
        open: usize,
        made: usize,
        name_was_free: bool,
    }

    /// An instance, which is closed when dropped.
    struct Instance {
        number: usize,
        /// The client that has connected.
        client: Option<char>,
        /// The setting with which it was created.
        setting: bool,
        kernel: Pipe,
    }

    #[derive(Clone)]
    struct Pipe(Rc<RefCell<Kernel>>);

    impl Pipe {
        fn new(limit: usize) -> Pipe {
            Pipe(Rc::new(RefCell::new(Kernel {
                limit,
                has_memory: true,
                ..Kernel::default()
            })))
        }

        fn make(&self, setting: bool) -> Result<Instance, Refusal> {
            let mut kernel = self.0.borrow_mut();
            if kernel.open >= kernel.limit {
                return Err(Refusal::Limit);
            }
            if !kernel.has_memory {
                return Err(Refusal::Memory);
            }
            kernel.open += 1;
            kernel.made += 1;
            Ok(Instance {
                number: kernel.made,
                client: None,
                setting,
                kernel: self.clone(),
            })
        }

        fn backlog(&self, size: usize) -> Backlog<Instance> {
            let mut backlog = Backlog::new(self.make(false).unwrap(), size);
            backlog.fill(|| self.make(false)).unwrap();
            backlog
        }

        fn out_of_memory(&self, is_so: bool) {
            self.0.borrow_mut().has_memory = !is_so;
        }

        fn name_was_free(&self) -> bool {
            self.0.borrow().name_was_free
        }
    }

    impl Drop for Instance {
        fn drop(&mut self) {
            let mut kernel = self.kernel.0.borrow_mut();
            kernel.open -= 1;
            kernel.name_was_free |= kernel.open == 0;
        }
    }

    impl Backlog<Instance> {
        /// Connects a client, as the kernel would. Returns whether there was an instance for it.
        fn connect(&mut self, client: char) -> bool {
            let mut listening = self.idle.iter_mut().filter(|one| one.client.is_none());
            listening
                .next()
                .map(|one| one.client = Some(client))
                .is_some()
        }

        fn accept_from(&mut self, pipe: &Pipe) -> Result<Instance, Refusal> {
            assert!(self.head().unwrap().client.is_some());
            self.accept(|| pipe.make(false)).map(Option::unwrap)
        }

        fn renew_in(&mut self, pipe: &Pipe, setting: bool) -> Result<(), Refusal> {
            self.renew(
                |one| one.client.is_none() && one.setting != setting,
                || pipe.make(setting),
                |refusal| *refusal == Refusal::Limit,
            )
        }

        fn numbers(&self) -> Vec<usize> {
            self.idle.iter().map(|one| one.number).collect()
        }

        fn clients(&self) -> String {
            self.idle.iter().filter_map(|one| one.client).collect()
        }

        fn settings(&self) -> Vec<bool> {
            self.idle.iter().map(|one| one.setting).collect()
        }
    }

    #[test]
    fn clients_are_accepted_in_order_and_the_queue_stays_full() {
        for size in [1, 2, 5] {
            let pipe = Pipe::new(usize::MAX);
            let mut backlog = pipe.backlog(size);
            assert_eq!(backlog.numbers(), (1..=size).collect::<Vec<_>>());
            for client in 'a'..='z' {
                assert!(backlog.connect(client));
                let accepted = backlog.accept_from(&pipe).unwrap();
                assert_eq!(accepted.client, Some(client));
                assert_eq!(backlog.idle.len(), size);
            }
            assert_eq!(pipe.0.borrow().made, size + 26, "one for each client");
        }
    }

    #[test]
    fn the_last_instance_is_kept_with_its_client_until_there_is_another() {
        for refusal in [Refusal::Limit, Refusal::Memory] {
            let pipe = Pipe::new(match refusal {
                Refusal::Limit => 2,
                Refusal::Memory => usize::MAX,
            });
            let mut backlog = pipe.backlog(2);
            assert!(backlog.connect('a') && backlog.connect('b'));
            pipe.out_of_memory(refusal == Refusal::Memory);
            let first = backlog.accept_from(&pipe).unwrap();
            for _ in 0..3 {
                assert_eq!(backlog.accept_from(&pipe).err(), Some(refusal));
                assert_eq!(backlog.clients(), "b");
            }
            pipe.out_of_memory(false);
            drop(first);
            assert_eq!(backlog.accept_from(&pipe).unwrap().client, Some('b'));
            assert_eq!(backlog.clients(), "");
            assert!(!pipe.name_was_free());
        }
    }

    #[test]
    fn a_short_queue_is_filled_by_a_later_call() {
        let pipe = Pipe::new(usize::MAX);
        let mut backlog = pipe.backlog(4);
        pipe.out_of_memory(true);
        assert!(backlog.connect('a') && backlog.connect('b'));
        let _first = backlog.accept_from(&pipe).unwrap();
        assert_eq!(backlog.idle.len(), 3);
        pipe.out_of_memory(false);
        let _second = backlog.accept_from(&pipe).unwrap();
        assert_eq!(backlog.idle.len(), 4);
    }

    #[test]
    fn a_client_that_is_not_accepted_stays_at_the_head() {
        let pipe = Pipe::new(usize::MAX);
        let mut backlog = pipe.backlog(3);
        assert!(backlog.connect('a'));
        // The wait for it failed or was cancelled: no call takes the client.
        for _ in 0..3 {
            assert_eq!(backlog.head().unwrap().client, Some('a'));
        }
        assert_eq!(backlog.accept_from(&pipe).unwrap().client, Some('a'));
    }

    #[test]
    fn a_closed_queue_has_no_head_and_makes_no_instance() {
        let pipe = Pipe::new(usize::MAX);
        let mut backlog = pipe.backlog(3);
        drop(backlog.close());
        assert!(pipe.name_was_free());
        assert!(backlog.head().is_none());
        assert!(matches!(backlog.accept(|| pipe.make(false)), Ok(None)));
        assert_eq!(backlog.renew_in(&pipe, true), Ok(()));
        assert_eq!(pipe.0.borrow().made, 3);
    }

    #[test]
    fn renewing_replaces_what_listens_and_keeps_clients_and_order() {
        let pipe = Pipe::new(usize::MAX);
        let mut backlog = pipe.backlog(4);
        assert!(backlog.connect('a') && backlog.connect('b'));
        assert_eq!(backlog.renew_in(&pipe, true), Ok(()));
        assert_eq!(backlog.numbers(), [1, 2, 5, 6]);
        assert_eq!(backlog.clients(), "ab");
        assert_eq!(backlog.settings(), [false, false, true, true]);
        // Instances that are up to date stay.
        assert_eq!(backlog.renew_in(&pipe, true), Ok(()));
        assert_eq!(backlog.numbers(), [1, 2, 5, 6]);
        assert!(!pipe.name_was_free());
    }

    #[test]
    fn renewing_keeps_every_instance_that_has_no_successor() {
        let pipe = Pipe::new(usize::MAX);
        let mut backlog = pipe.backlog(3);
        pipe.out_of_memory(true);
        assert_eq!(backlog.renew_in(&pipe, true), Err(Refusal::Memory));
        assert_eq!(backlog.numbers(), [1, 2, 3]);
        pipe.out_of_memory(false);
        assert_eq!(backlog.renew_in(&pipe, true), Ok(()));
        assert_eq!(backlog.settings(), [true; 3]);
        assert!(!pipe.name_was_free());
    }

    #[test]
    fn renewing_at_the_limit_lets_an_old_one_go_first_but_never_the_last() {
        let pipe = Pipe::new(3);
        let mut backlog = pipe.backlog(3);
        assert_eq!(backlog.renew_in(&pipe, true), Ok(()));
        assert_eq!(backlog.settings(), [true; 3]);
        assert_eq!(backlog.idle.len(), 3);

        // One instance is left; the others belong to accepted clients.
        assert!(backlog.connect('a') && backlog.connect('b'));
        let accepted = [
            backlog.accept_from(&pipe).unwrap(),
            backlog.accept_from(&pipe).unwrap(),
        ];
        assert_eq!(backlog.renew_in(&pipe, false), Err(Refusal::Limit));
        assert_eq!(backlog.settings(), [true]);
        drop(accepted);
        assert_eq!(backlog.renew_in(&pipe, false), Ok(()));
        assert_eq!(backlog.settings(), [false]);
        assert!(!pipe.name_was_free());
    }

    #[test]
    fn whatever_happens_no_client_is_lost_and_the_name_is_never_free() {
        let mut random = 1_u64;
        let mut below = |limit: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize % limit
        };
        for _ in 0..if cfg!(miri) { 5 } else { 300 } {
            let limit = 2 + below(4);
            let size = 1 + below(limit);
            let pipe = Pipe::new(limit);
            let mut backlog = pipe.backlog(size);
            let (mut come, mut accepted, mut streams) = (0, 0, Vec::new());
            for _ in 0..100 {
                match below(6) {
                    0 | 1 if backlog.connect(char::from_u32(0x4e00 + come).unwrap()) => come += 1,
                    2 if backlog.head().unwrap().client.is_some() => {
                        if let Ok(stream) = backlog.accept_from(&pipe) {
                            let number = stream.client.unwrap() as u32 - 0x4e00;
                            assert_eq!(number, accepted, "each one once, in order");
                            accepted += 1;
                            streams.push(stream);
                        }
                    }
                    3 => drop(streams.pop()),
                    4 => {
                        let (setting, before) = (below(2) == 1, backlog.clients());
                        let _ = backlog.renew_in(&pipe, setting);
                        assert_eq!(backlog.clients(), before);
                    }
                    5 => pipe.out_of_memory(below(2) == 1),
                    _ => {}
                }
                assert!(!backlog.idle.is_empty());
                assert_eq!(backlog.clients().chars().count() as u32, come - accepted);
            }
            assert!(!pipe.name_was_free());
        }
    }
}
