//! What the containers run, and what they must be found to have written.
//! Each line carries its container's name and number, so a gap, a repeat and a mix-up all show.

/// Fills a line to about 100 bytes, some 170 in Docker's file.
const PADDING: &str = "the quick brown fox jumps over the lazy dog and writes it down";

/// Lines `first..=last` of `name`, in bursts of `burst` lines with `pause_us` between them.
pub fn paced(name: &str, first: usize, last: usize, burst: usize, pause_us: usize) -> String {
    format!(
        "i={first}; while [ $i -le {last} ]; do \
           b=0; while [ $b -lt {burst} ] && [ $i -le {last} ]; do echo \"{name} $i {PADDING}\"; i=$((i+1)); b=$((b+1)); done; \
           usleep {pause_us}; \
         done"
    )
}

/// Lines of `name` from 1 on until `/ctl/stop` is there; then their number into `/ctl/count`.
pub fn until_stopped(name: &str, burst: usize, pause_us: usize) -> String {
    format!(
        "i=0; while [ ! -e /ctl/stop ]; do \
           b=0; while [ $b -lt {burst} ]; do i=$((i+1)); b=$((b+1)); echo \"{name} $i {PADDING}\"; done; \
           usleep {pause_us}; \
         done; echo $i > /ctl/count"
    )
}

/// Waits for `Engine::tell(name, word)`.
pub fn await_word(word: &str) -> String {
    format!("while [ ! -e /ctl/{word} ]; do usleep 5000; done")
}

/// What `paced` and `until_stopped` write.
pub fn lines(name: &str, first: usize, last: usize) -> Vec<u8> {
    (first..=last).map(|number| format!("{name} {number} {PADDING}\n")).collect::<String>().into_bytes()
}

/// What `seq FIRST LAST` writes.
pub fn numbers(first: usize, last: usize) -> Vec<u8> {
    (first..=last).map(|number| format!("{number}\n")).collect::<String>().into_bytes()
}
