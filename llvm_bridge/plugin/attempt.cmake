# Configure and build the plugin ${LIBRARY} for the LLVM in ${LLVM}; failure is a message and nothing more.
file(REMOVE_RECURSE "${BUILD}" "${LIBRARY}")
get_filename_component(FOLDER "${LIBRARY}" DIRECTORY)
set(compilers "-DCMAKE_CXX_COMPILER=${CXX}" "-DCMAKE_MAKE_PROGRAM=${MAKE}")
if(CC)
  list(APPEND compilers "-DCMAKE_C_COMPILER=${CC}")
endif()
execute_process(
  COMMAND "${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${SOURCE}" -B "${BUILD}" "-DLLVM_DIR=${LLVM}"
          "-DK2_PLUGIN_FOLDER=${FOLDER}" ${compilers}
  RESULT_VARIABLE failed OUTPUT_VARIABLE words ERROR_VARIABLE words)
if(NOT failed)
  execute_process(COMMAND "${CMAKE_COMMAND}" --build "${BUILD}" --config Release
                  RESULT_VARIABLE failed OUTPUT_VARIABLE words ERROR_VARIABLE words)
endif()
if(failed)
  string(REGEX MATCH "[^\n]*[Ee]rror[^\n]*" reason "${words}")
  message(STATUS "no pass plugin for ${LLVM}: ${reason}")
endif()
