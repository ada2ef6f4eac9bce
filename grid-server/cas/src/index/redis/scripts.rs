//! What the index does to its keys, each in one step of the server.
//!
//! Keys: the counter of bytes, that of blobs, then one key a blob. Arguments: two times, then one number a blob, its size
//! unless something else is said. Answers: one number a blob.

use std::sync::LazyLock;

use redis::Script;

/// Tells until when a key's value claims the blob: 0 for no claim, `nil` for no key.
const UNTIL: &str = "
local function until_of(key)
    local value = redis.call('GET', key)
    if not value then return nil end
    return tonumber(string.match(value, '^claimed:(%d+)$')) or 0
end
-- The later of a time and of when a key expires.
local function later(key, time)
    local left = redis.call('PTTL', key)
    if left < 0 then return time end
    local now = redis.call('TIME')
    local expires = now[1] * 1000 + math.floor(now[2] / 1000) + left
    return expires > tonumber(time) and string.format('%.0f', expires) or time
end
local answers = {}
-- An index that has neither counter is new, and counts from its first blob on; one of BuildGrid's is counted once as a whole.
local counts = redis.call('EXISTS', KEYS[2]) == 1 or redis.call('EXISTS', KEYS[1]) == 0
local function add(size, blobs)
    redis.call('INCRBY', KEYS[1], size * blobs)
    if counts then redis.call('INCRBY', KEYS[2], blobs) end
end
";

fn script(body: &str) -> Script {
    Script::new(&format!("{UNTIL}{body}\nreturn answers"))
}

/// Whether each is there and not claimed; notes its use. Times: now, and when its key is to expire.
pub(super) static PRESENT: LazyLock<Script> = LazyLock::new(|| {
    script(
        "for i = 3, #KEYS do
             local there = until_of(KEYS[i]) == 0
             if there then redis.call('PEXPIREAT', KEYS[i], later(KEYS[i], ARGV[2])) end
             answers[i - 2] = there and 1 or 0
         end",
    )
});

/// Notes each that is not claimed (any more), counts those that are new, and tells those that were claimed. Times: now, and
/// when its key is to expire.
pub(super) static INSERT: LazyLock<Script> = LazyLock::new(|| {
    script(
        "for i = 3, #KEYS do
             local claimed = until_of(KEYS[i])
             local new = not claimed
             if (claimed or 0) <= tonumber(ARGV[1]) then
                 local expires = later(KEYS[i], ARGV[2])
                 redis.call('SET', KEYS[i], '1')
                 redis.call('PEXPIREAT', KEYS[i], expires)
             end
             if new then
                 add(ARGV[i], 1)
             end
             answers[i - 2] = (claimed or 0) > 0 and 1 or 0
         end",
    )
});

/// Notes each that is not known as claimed, and counts it. Times: until when, and when its key is to expire.
pub(super) static ADOPT: LazyLock<Script> = LazyLock::new(|| {
    script(
        "for i = 3, #KEYS do
             local new = not until_of(KEYS[i])
             if new then
                 redis.call('SET', KEYS[i], 'claimed:' .. ARGV[1])
                 redis.call('PEXPIREAT', KEYS[i], ARGV[2])
                 add(ARGV[i], 1)
             end
             answers[i - 2] = new and 1 or 0
         end",
    )
});

/// Has each expire no later than then; tells which would have. Times: now, and when its key is to expire.
pub(super) static UNPIN: LazyLock<Script> = LazyLock::new(|| {
    script(
        "for i = 3, #KEYS do
             local pinned = later(KEYS[i], ARGV[2]) ~= ARGV[2]
             if pinned then redis.call('PEXPIREAT', KEYS[i], ARGV[2]) end
             answers[i - 2] = pinned and 1 or 0
         end",
    )
});

/// Whether each has a key.
pub(super) static NOTED: LazyLock<Script> =
    LazyLock::new(|| script("for i = 3, #KEYS do answers[i - 2] = redis.call('EXISTS', KEYS[i]) end"));

/// Makes it the turn of a holder, unless it is another's. Key: the turn's. Arguments: the holder, and for how many
/// milliseconds.
pub(super) static TAKE_TURN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local holder = redis.call('GET', KEYS[1])
         if holder and holder ~= ARGV[1] then return 0 end
         redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
         return 1",
    )
});

/// Ends the turn of a holder. Key: the turn's. Argument: the holder.
pub(super) static END_TURN: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1")
});

/// Whether each is claimed. Times: now.
pub(super) static CLAIMED: LazyLock<Script> = LazyLock::new(|| {
    script(
        "for i = 3, #KEYS do
             answers[i - 2] = (until_of(KEYS[i]) or 0) > tonumber(ARGV[1]) and 1 or 0
         end",
    )
});

/// Claims each that is there and not claimed. Times: now, and until when.
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    script(
        "for i = 3, #KEYS do
             local claimed = until_of(KEYS[i])
             local free = claimed and claimed <= tonumber(ARGV[1])
             if free then redis.call('SET', KEYS[i], 'claimed:' .. ARGV[2], 'KEEPTTL') end
             answers[i - 2] = free and 1 or 0
         end",
    )
});

/// As [`CLAIM`], of those whose key still expires in as many milliseconds at most as the number says: a use would have put
/// it off.
pub(super) static CLAIM_UNUSED: LazyLock<Script> = LazyLock::new(|| {
    script(
        "for i = 3, #KEYS do
             local claimed = until_of(KEYS[i])
             local free = claimed and claimed <= tonumber(ARGV[1])
             local unused = free and redis.call('PTTL', KEYS[i]) <= tonumber(ARGV[i])
             if unused then redis.call('SET', KEYS[i], 'claimed:' .. ARGV[2], 'KEEPTTL') end
             answers[i - 2] = unused and 1 or 0
         end",
    )
});

/// Removes each that is claimed until exactly this time, and counts it out.
pub(super) static FORGET: LazyLock<Script> = LazyLock::new(|| {
    script(
        "for i = 3, #KEYS do
             local ours = redis.call('GET', KEYS[i]) == 'claimed:' .. ARGV[1]
             if ours then
                 redis.call('DEL', KEYS[i])
                 add(ARGV[i], -1)
             end
             answers[i - 2] = ours and 1 or 0
         end",
    )
});

/// Ends the claim on each that is claimed until exactly this time.
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "for i = 3, #KEYS do
             local ours = redis.call('GET', KEYS[i]) == 'claimed:' .. ARGV[1]
             if ours then redis.call('SET', KEYS[i], '1', 'KEEPTTL') end
             answers[i - 2] = ours and 1 or 0
         end",
    )
});
