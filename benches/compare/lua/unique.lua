-- A target that was never asked for before, each time: unique.lua PREFIX, which must differ from run to run.
dofile(os.getenv("COMPARE_LUA") .. "/report.lua")

local before, after
local number = 0

function init(arguments)
    local whole = wrk.format("GET", arguments[1] .. "NUMBER")
    local first, last = whole:find("NUMBER", 1, true)
    before, after = whole:sub(1, first - 1), whole:sub(last + 1)
end

function request()
    number = number + 1
    return before .. number .. after
end
