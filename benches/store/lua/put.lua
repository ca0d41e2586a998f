-- A PUT to each target of a file, one after the other: put.lua FILE BODY_BYTES
dofile(os.getenv("COMPARE_LUA") .. "/report.lua")

local next_target, file, before, after

function init(arguments)
    file = arguments[1]
    next_target = io.lines(file)
    local body = string.rep("0123456789abcdef", math.ceil(tonumber(arguments[2]) / 16)):sub(1, tonumber(arguments[2]))
    local whole = wrk.format("PUT", "/TARGET", nil, body)
    local first, last = whole:find("/TARGET", 1, true)
    before, after = whole:sub(1, first - 1), whole:sub(last + 1)
end

function request()
    local target = next_target()
    if not target then
        -- Faster than was thought possible: what there is is replaced.
        next_target = io.lines(file)
        target = next_target()
    end
    return before .. target .. after
end
