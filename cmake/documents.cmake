# The manual and the completions of shells: the program makes them of its own tables of options, so that they cannot say
# anything else. Not where what is built does not run on this machine.
if(CMAKE_CROSSCOMPILING AND NOT CMAKE_CROSSCOMPILING_EMULATOR)
  return()
endif()
set(documents ${PROJECT_BINARY_DIR}/documents)
set(compress)
if(TT_DEBIAN)
  set(compress COMMAND gzip -9nfr ${documents}/man1)
endif()
add_custom_command(OUTPUT ${documents}/stamp DEPENDS trimtab-cli VERBATIM
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${documents}/man1
  COMMAND ${CMAKE_COMMAND} -E make_directory ${documents}/man1
  COMMAND trimtab-cli man --output ${documents}/man1
  ${compress}
  COMMAND trimtab-cli completion bash --output ${documents}/trimtab.bash
  COMMAND trimtab-cli completion zsh --output ${documents}/_trimtab
  COMMAND trimtab-cli completion fish --output ${documents}/trimtab.fish
  COMMAND ${CMAKE_COMMAND} -E touch ${documents}/stamp)
add_custom_target(trimtab-documents ALL DEPENDS ${documents}/stamp)

# Where each shell looks, below a prefix that it knows.
set(TT_ZSH_DIR ${CMAKE_INSTALL_DATADIR}/zsh/site-functions CACHE STRING "Where zsh's completion goes")
install(DIRECTORY ${documents}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR} COMPONENT program)
install(FILES ${documents}/trimtab.bash RENAME trimtab COMPONENT program
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${documents}/_trimtab COMPONENT program DESTINATION ${TT_ZSH_DIR})
install(FILES ${documents}/trimtab.fish COMPONENT program
  DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
