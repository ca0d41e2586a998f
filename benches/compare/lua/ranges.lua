-- Ranges of one length at random offsets of one object: ranges.lua TARGET OBJECT_BYTES RANGE_BYTES SEED
dofile(os.getenv("COMPARE_LUA") .. "/report.lua")

local before, after, last_offset, length

function init(arguments)
    local whole = wrk.format("GET", arguments[1], { ["Range"] = "bytes=RANGE", ["Host"] = wrk.headers["Host"] })
    local first, last = whole:find("RANGE", 1, true)
    before, after = whole:sub(1, first - 1), whole:sub(last + 1)
    length = tonumber(arguments[3])
    last_offset = tonumber(arguments[2]) - length
    math.randomseed(tonumber(arguments[4]))
end

function request()
    local offset = math.random(0, last_offset)
    return before .. string.format("%d-%d", offset, offset + length - 1) .. after
end
