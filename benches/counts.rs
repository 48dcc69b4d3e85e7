//! How many instructions the works take: the contenders one after the other under Callgrind, driven by gungraun.
//!
//! What the stub's hardware does is left out: it stands for a machine that works beside the CPU.
#![allow(missing_docs, clippy::expect_used, reason = "a benchmark")]

use cofferdam_benches::Job;
use gungraun::Callgrind;
use gungraun::prelude::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn job(work: &str, contender: &str, bytes: u64) -> Box<dyn Job> {
    cofferdam_benches::job(work, contender, bytes).expect("work that there is")
}

/// One benchmark function for a work, with one benchmark for each contender; `all` stands for those of most works.
macro_rules! count {
    ($work:ident, $bytes:expr, all) => {
        count!(
            $work,
            $bytes,
            [stores, cofferdam, cofferdam_v1, x86_64, page_table_multiarch, page_table_generic, aarch64_paging]
        );
    };
    ($work:ident, $bytes:expr, [$($contender:ident),*]) => {
        #[library_benchmark]
        $(#[bench::$contender(job(stringify!($work), stringify!($contender), $bytes))])*
        fn $work(mut job: Box<dyn Job>) -> Box<dyn Job> {
            job.run();
            job
        }
    };
}

count!(map_page, 64 * MIB, all);
count!(map_page_alike, 64 * MIB, all);
count!(unmap_page, 64 * MIB, all);
count!(map_4k, 64 * MIB, all);
count!(unmap_4k, 64 * MIB, all);
count!(map_2m, 64 * GIB, all);
count!(unmap_2m, 512 * GIB, all);
count!(unmap_sparse, 512 * GIB, [cofferdam, page_table_generic, aarch64_paging]);
count!(batch, 0, [cofferdam]);
count!(cell, 0, [cofferdam]);
count!(carve, 0, [cofferdam]);
count!(route, 0, [cofferdam]);

library_benchmark_group!(
    name = works,
    benchmarks = [
        map_page,
        map_page_alike,
        unmap_page,
        map_4k,
        unmap_4k,
        map_2m,
        unmap_2m,
        unmap_sparse,
        batch,
        cell,
        carve,
        route
    ]
);

main!(
    config = LibraryBenchmarkConfig::default()
        // Callgrind counts each byte of a `rep stosb` and a `rep movsb` as an instruction, which a CPU does not.
        .env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_stosb_threshold=1000000:glibc.cpu.x86_rep_movsb_threshold=1000000")
        .tool(Callgrind::with_args(["--toggle-collect=*hardware_runs_the_queue*", "--cache-sim=no"])),
    library_benchmark_groups = works
);
