-- The URL of the command line, over and over.
dofile(os.getenv("COMPARE_LUA") .. "/report.lua")
