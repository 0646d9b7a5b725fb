# cmake -D SOURCE=FOLDER -D OUT=FILE -P commit.cmake: writes a header with the commit that FOLDER is at, if that has
# changed. A FOLDER inside of another project's repository has none.
set(commit unknown)
# Root may install what another user has checked out.
set(git git -c safe.directory=* -C ${SOURCE})
execute_process(COMMAND ${git} rev-parse --show-toplevel OUTPUT_VARIABLE top OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_QUIET)
file(REAL_PATH ${SOURCE} source)
if(top STREQUAL source)
  execute_process(COMMAND ${git} describe --always --dirty --abbrev=12 --exclude=* OUTPUT_VARIABLE commit
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#define TT_COMMIT \"${commit}\"\n" @ONLY)
