/* Runs a small program on the Lua that this is linked with, and prints what it gives. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

static const char program[] =
    "local t = {} for i = 1, 100 do t[i] = i * i end "
    "local s = 0 for _, v in ipairs(t) do s = s + v end "
    "return _VERSION .. ' ' .. string.format('%d', s)";

int main(void) {
  lua_State *state = luaL_newstate();
  luaL_openlibs(state);
  if (luaL_loadstring(state, program) || lua_pcall(state, 0, 1, 0)) {
    fprintf(stderr, "%s\n", lua_tostring(state, -1));
    return 1;
  }
  puts(lua_tostring(state, -1));
  lua_close(state);
  return 0;
}
