// node:http without the form that `import` gives it: that form reads all of its exports, and one of them loads Node's fetch and WebSocket,
// a tenth of the start of a program that has no use for them.
export const http = process.getBuiltinModule('node:http');
