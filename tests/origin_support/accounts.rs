//! Every byte on disk is named or declared garbage, and garbage goes.

use super::load::{self, Trouble, Writer};
use super::machine::{Machine, Running};

/// Lets each client do something at the same time.
pub fn in_parallel(
    writers: &mut [Writer],
    work: impl Fn(&mut Writer) -> Result<(), Trouble> + Sync,
) -> Result<(), Trouble> {
    std::thread::scope(|scope| {
        let work = &work;
        let each = writers
            .iter_mut()
            .map(|writer| scope.spawn(move || work(writer)));
        let each: Vec<_> = each.collect();
        let outcomes = each.into_iter().map(|one| one.join().unwrap());
        outcomes.collect()
    })
}

/// Looks at every byte on disk, as the last kill has left it and after the next start.
pub fn account(machine: &mut Machine, writers: &mut [Writer]) {
    let seen = machine.verify();
    assert_eq!(
        machine.bytes_in("big") + machine.bytes_in("tmp"),
        seen.named_file_bytes + seen.garbage_file_bytes + seen.left_file_bytes,
        "{seen:?}"
    );
    assert!(machine.bytes_in("pack") >= seen.pack_live_bytes, "{seen:?}");
    let store = machine.start();
    in_parallel(writers, |writer| writer.settle(store.address)).unwrap();
    collect(&store);
    store.stop();
    let seen = machine.verify();
    assert_eq!(
        (seen.left_files, seen.garbage_file_bytes),
        (0, 0),
        "{seen:?}"
    );
    assert_eq!(machine.bytes_in("tmp"), 0);
    assert_eq!(machine.bytes_in("big"), seen.named_file_bytes, "{seen:?}");
    // A pack stays while half of it is alive.
    assert_eq!(machine.bytes_in("pack"), seen.pack_capacity_bytes);
    assert!(
        seen.pack_capacity_bytes <= 2 * seen.pack_live_bytes,
        "{seen:?}"
    );
}

/// Deletes everything; nothing stays on disk.
pub fn empty(machine: &mut Machine, writers: &mut [Writer]) {
    let store = machine.start();
    load::empty(store.address);
    collect(&store);
    // Before a start, which removes the file of whatever nobody names.
    assert_eq!(machine.bytes_in("big"), 0, "a running store kept files");
    store.stop();
    let store = machine.start();
    collect(&store);
    store.stop();
    let seen = machine.verify();
    assert_eq!((seen.blobs_in_all, seen.left_files), (0, 0), "{seen:?}");
    for folder in ["big", "tmp", "pack"] {
        assert_eq!(machine.bytes_in(folder), 0, "{folder}");
    }
    for writer in writers {
        writer.forget();
    }
}

fn collect(store: &Running) {
    // The rules first: a round that began with the process may be moving what was deleted meanwhile.
    for job in ["lifecycle", "garbage", "compact"] {
        let told = Running::run_job(store.admin, job).unwrap();
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    }
}
