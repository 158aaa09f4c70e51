//! Work in parts, some at a time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

/// How many things this machine does at once.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` on all `items` with so many workers; each result is handed to `done` as it comes, with its item's
/// number.
///
/// Every other worker takes from the end. Where neighbours have something in common that is costly to set up, each
/// worker then sets up few.
pub fn each<T: Sync, R: Send>(
    items: &[T],
    workers: usize,
    work: impl Fn(usize, &T) -> R + Sync,
    mut done: impl FnMut(usize, R),
) {
    let open: Mutex<VecDeque<(usize, &T)>> = Mutex::new(items.iter().enumerate().collect());
    let next = |worker: usize| {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if worker.is_multiple_of(2) { open.pop_front() } else { open.pop_back() }
    };
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for worker in 0..workers.clamp(1, items.len().max(1)) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((number, item)) = next(worker) {
                    // The other end lives as long as the scope.
                    let _sent = sender.send((number, work(worker, item)));
                }
            });
        }
        drop(sender);
        for (number, result) in results {
            done(number, result);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::each;
    use std::collections::BTreeMap;

    #[test]
    fn everything_is_done_once_whatever_the_number_of_workers() {
        let items: Vec<usize> = (0..50).collect();
        for workers in [0, 1, 2, 3, 100] {
            let mut results = BTreeMap::new();
            each(
                &items,
                workers,
                |worker, item| (worker, item * 2),
                |number, result| {
                    assert_eq!(results.insert(number, result), None);
                },
            );
            assert!(results.len() == 50 && results.iter().all(|(number, (_, twice))| number * 2 == *twice));
            assert!(results.values().all(|(worker, _)| *worker < workers.max(1)));
        }
        each(&[] as &[usize], 2, |_, _| (), |_, ()| panic!("there was nothing"));
    }
}
