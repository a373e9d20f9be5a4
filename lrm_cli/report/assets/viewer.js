// The 3D view of an item's page. NAME.mesh.js calls showMesh with the mesh: arrays in base64, z up,
// its front towards -y, within a sphere that fills the picture.
"use strict";

const DISTANCE = 2; // of the camera from the mesh's middle, as the still views have it
const FOCAL = 1 / Math.tan((45 / 2) * (Math.PI / 180));
const [NEAR, FAR] = [0.05, 10];
const STEEPEST = 1.5; // radians

const VERTEX_SHADER = `#version 300 es
in vec3 position, normal, color;
in vec2 uv;
uniform mat3 turn;
uniform vec4 lens; // focal lengths in x and y, and two for the depth
uniform float distance;
out vec3 facing, tint;
out vec2 place;
void main() {
  vec3 seen = turn * position - vec3(0.0, 0.0, distance);
  gl_Position = vec4(lens.xy * seen.xy, lens.z * seen.z + lens.w, -seen.z);
  facing = turn * normal;
  tint = color;
  place = uv;
}`;
// Textures carry light of their own already: the viewer's is soft and mostly ambient.
const FRAGMENT_SHADER = `#version 300 es
precision highp float;
in vec3 facing, tint;
in vec2 place;
uniform sampler2D picture;
uniform bool unlit;
out vec4 result;
void main() {
  float light = 0.78 + 0.22 * max(dot(normalize(facing), normalize(vec3(0.2, 0.5, 0.84))), 0.0);
  result = vec4(tint * texture(picture, place).rgb * (unlit ? 1.0 : light), 1.0);
}`;

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function compile(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, VERTEX_SHADER],
    [gl.FRAGMENT_SHADER, FRAGMENT_SHADER],
  ]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  ["position", "normal", "color", "uv"].forEach((name, i) => gl.bindAttribLocation(program, i, name));
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  return program;
}

function upload(gl, part) {
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  const attribute = (slot, data, size, type, stride, missing) => {
    if (!data) return gl.vertexAttrib3f(slot, ...missing);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, bytes(data), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(slot);
    gl.vertexAttribPointer(slot, size, type, type !== gl.FLOAT, stride, 0);
  };
  attribute(0, part.positions, 3, gl.FLOAT, 0);
  attribute(1, part.normals, 3, gl.BYTE, 4);
  attribute(2, part.colors, 3, gl.UNSIGNED_BYTE, 4, part.color);
  attribute(3, part.uvs, 2, gl.FLOAT, 0, [0, 0, 0]);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  const indices = bytes(part.indices);
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
  return { array, count: indices.length / 4, color: part.color, unlit: part.unlit, texture: gl.createTexture() };
}

async function paint(gl, texture, jpeg) {
  const white = new Uint8Array([255, 255, 255, 255]);
  gl.bindTexture(gl.TEXTURE_2D, texture);
  if (!jpeg) return gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, white);
  const image = new Image();
  image.src = "data:image/jpeg;base64," + jpeg;
  await image.decode();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.pixelStorei(gl.UNPACK_FLIP_Y_WEBGL, true);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
  gl.generateMipmap(gl.TEXTURE_2D);
}

// How the mesh is turned and how near it is, changed by pointer, wheel and keys.
function steer(canvas, home, redraw) {
  const pose = { ...home };
  const change = (yaw, pitch, zoom = 1) => {
    pose.yaw += yaw;
    pose.pitch = Math.max(-STEEPEST, Math.min(STEEPEST, pose.pitch + pitch));
    pose.zoom = Math.max(0.4, Math.min(8, pose.zoom * zoom));
    redraw();
  };
  const back = () => redraw(Object.assign(pose, home));
  const fingers = new Map(); // where each pointer was
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const finger = fingers.get(event.pointerId);
    if (!finger) return;
    const before = fingers.size === 2 ? spread() : 0;
    const [x, y] = [event.clientX - finger.x, event.clientY - finger.y];
    Object.assign(finger, { x: event.clientX, y: event.clientY });
    if (fingers.size === 1) change(x * 0.01, y * 0.01);
    else if (before) change(0, 0, spread() / before);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("dblclick", back);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    change(0, 0, Math.exp(-event.deltaY * (event.deltaMode ? 0.04 : 0.0015)));
  }, { passive: false });
  const keys = {
    ArrowLeft: () => change(-0.15, 0), ArrowRight: () => change(0.15, 0),
    ArrowUp: () => change(0, -0.15), ArrowDown: () => change(0, 0.15),
    "+": () => change(0, 0, 1.15), "=": () => change(0, 0, 1.15), "-": () => change(0, 0, 1 / 1.15),
    0: back, Home: back,
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  return pose;
}

// For tests: whether a frame shows anything but background.
function hasDrawn(gl) {
  const pixels = new Uint8Array(4 * gl.drawingBufferWidth * gl.drawingBufferHeight);
  gl.readPixels(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  return pixels.some((value, i) => i % 4 === 3 && value > 0);
}

async function showMesh(mesh) {
  const viewer = document.getElementById("viewer");
  const canvas = viewer.querySelector("canvas");
  const gl = canvas.getContext("webgl2", { alpha: true, antialias: true });
  if (!gl) {
    canvas.hidden = true;
    viewer.querySelector("p").hidden = false;
    viewer.dataset.state = "no-webgl";
    return;
  }
  const program = compile(gl);
  gl.useProgram(program);
  gl.enable(gl.DEPTH_TEST);
  const parts = mesh.parts.map((part) => upload(gl, part));
  await Promise.all(parts.map(({ texture }, i) => paint(gl, texture, mesh.parts[i].texture)));
  parts.forEach(({ texture }, i) => {
    gl.bindTexture(gl.TEXTURE_2D, texture);
    const smooth = mesh.parts[i].texture ? gl.LINEAR_MIPMAP_LINEAR : gl.NEAREST;
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, smooth);
  });
  const uniform = (name) => gl.getUniformLocation(program, name);
  const [turn, lens, distance, unlit] = ["turn", "lens", "distance", "unlit"].map(uniform);

  function draw() {
    const density = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth * density, canvas.clientHeight * density].map(Math.round);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const [c, s, cy, sy] = [Math.cos(pose.pitch), Math.sin(pose.pitch), Math.cos(pose.yaw), Math.sin(pose.yaw)];
    // Turned around z, then tipped towards the camera; columns are the images of x, y and z.
    gl.uniformMatrix3fv(turn, false, [cy, s * sy, -c * sy, -sy, s * cy, -c * cy, 0, c, s]);
    const focal = FOCAL * pose.zoom * Math.min(1, width / height);
    gl.uniform4f(lens, (focal * height) / width, focal, (FAR + NEAR) / (NEAR - FAR), (2 * FAR * NEAR) / (NEAR - FAR));
    gl.uniform1f(distance, DISTANCE);
    for (const part of parts) {
      gl.bindVertexArray(part.array);
      gl.vertexAttrib3f(2, ...part.color); // for parts without colours at their vertices
      gl.uniform1i(unlit, part.unlit ? 1 : 0);
      gl.bindTexture(gl.TEXTURE_2D, part.texture);
      gl.drawElements(gl.TRIANGLES, part.count, gl.UNSIGNED_INT, 0);
    }
    if (!viewer.dataset.state) viewer.dataset.state = hasDrawn(gl) ? "drawn" : "empty";
  }

  let waiting = 0;
  const redraw = () => (waiting ||= requestAnimationFrame(() => { waiting = 0; draw(); }));
  const home = { yaw: 0, pitch: (mesh.elevation * Math.PI) / 180, zoom: 1 };
  const pose = steer(canvas, home, redraw);
  new ResizeObserver(redraw).observe(canvas);
  redraw();
}
