// A canvas that writes PDF. echarts paints on a "2D context"; ours turns every stroke into a PDF operator instead of pixels.
//
//   PDF.font(family, {name, advance, glyph, top, middle, bottom})   // once for each font; widths in em
//   PDF.render(option, width, height, theme) -> JSON {operators, unknown}
//
// Points are transformed here, so that the PDF needs no matrices but those of turned text. PDF counts y from the bottom.
var PDF = (function () {
  var fonts = {}, out = [], height = 0, unknown = {};
  var BIG = 1e4, STRIPES = 32;

  function num(x) { return String(Math.round(x * 100) / 100); }

  // '#abc', '#aabbcc', 'rgb(1,2,3)', 'rgba(1,2,3,.5)' -> [r, g, b, alpha] in 0..1; null: nothing to paint
  function colour(s) {
    if (Array.isArray(s)) return s;
    if (s === 'transparent' || s === 'none') return null;
    var named = {black: '#000', white: '#fff'}[s];
    s = String(named || s).trim();
    if (s[0] === '#') {
      var h = s.slice(1);
      if (h.length < 6) h = h.replace(/./g, '$&$&');
      var c = [0, 2, 4].map(function (i) { return parseInt(h.slice(i, i + 2), 16) / 255; });
      return c.concat(h.length === 8 ? parseInt(h.slice(6), 16) / 255 : 1);
    }
    var m = /^rgba?\(([^)]*)\)$/.exec(s);
    if (!m) { unknown['colour ' + s] = 1; return [0, 0, 0, 1]; }
    var p = m[1].split(',').map(Number);
    return [p[0] / 255, p[1] / 255, p[2] / 255, p.length > 3 ? p[3] : 1];
  }
  function paint(c, operator) { return c.slice(0, 3).map(num).join(' ') + ' ' + operator + ' '; }
  function alpha(a) { return '/A' + Math.round(Math.max(0, Math.min(1, a)) * 100) + ' gs '; }   // 101 states, made once by Python

  // 'bold 14px "Droid Sans"' -> {size, bold, face}
  function face(css) {
    var m = /^(.*?)([\d.]+)px\s*(.*)$/.exec(css || '') || ['', '', '12', ''];
    var family = m[3].split(',')[0].replace(/["']/g, '').trim();
    var f = fonts[family] || fonts[Object.keys(fonts)[0]];          // as in a browser: a family that is not here is replaced
    return {size: +m[2], bold: /bold|[6-9]00/.test(m[1]), face: f};
  }
  function width(text, css) {
    var f = face(css), w = 0;
    for (var ch of String(text)) { var a = f.face.advance[ch.codePointAt(0)]; w += a === undefined ? 1 : a; }
    return w * f.size;
  }

  function Context(canvas) {
    this.canvas = canvas; this.stack = []; this.path = []; this.at = null; this.matrix = [1, 0, 0, 1, 0, 0]; this.dash = [];
    this.fillStyle = this.strokeStyle = '#000'; this.lineWidth = this.globalAlpha = 1; this.font = '12px sans-serif';
    this.textAlign = 'left'; this.textBaseline = 'alphabetic'; this.lineCap = 'butt'; this.lineJoin = 'miter';
  }
  var STATE = ['fillStyle', 'strokeStyle', 'lineWidth', 'globalAlpha', 'font', 'textAlign', 'textBaseline', 'lineCap', 'lineJoin', 'dash', 'matrix'];
  Context.prototype = {
    save: function () { var s = {}; for (var k of STATE) s[k] = this[k]; this.stack.push(s); out.push('q'); },
    restore: function () { var s = this.stack.pop(); if (s) { for (var k in s) this[k] = s[k]; out.push('Q'); } },

    // where things go: every change makes a new matrix, since saved states share the old one
    setTransform: function (a, b, c, d, e, f) { this.matrix = [a, b, c, d, e, f]; },
    transform: function (a, b, c, d, e, f) {
      var m = this.matrix;
      this.matrix = [m[0] * a + m[2] * b, m[1] * a + m[3] * b, m[0] * c + m[2] * d, m[1] * c + m[3] * d,
                     m[0] * e + m[2] * f + m[4], m[1] * e + m[3] * f + m[5]];
    },
    translate: function (x, y) { this.transform(1, 0, 0, 1, x, y); },
    scale: function (x, y) { this.transform(x, 0, 0, y, 0, 0); },
    rotate: function (t) { var c = Math.cos(t), s = Math.sin(t); this.transform(c, s, -s, c, 0, 0); },
    point: function (x, y) {
      var m = this.matrix;
      return num(m[0] * x + m[2] * y + m[4]) + ' ' + num(height - (m[1] * x + m[3] * y + m[5]));
    },

    // outlines
    beginPath: function () { this.path = []; this.at = null; },
    moveTo: function (x, y) { this.path.push(this.point(x, y) + ' m'); this.at = [x, y]; },
    lineTo: function (x, y) { this.path.push(this.point(x, y) + (this.at ? ' l' : ' m')); this.at = [x, y]; },
    bezierCurveTo: function (a, b, c, d, x, y) {
      if (!this.at) this.moveTo(a, b);
      this.path.push(this.point(a, b) + ' ' + this.point(c, d) + ' ' + this.point(x, y) + ' c'); this.at = [x, y];
    },
    quadraticCurveTo: function (a, b, x, y) {                       // PDF has cubic curves only
      var c = this.at || [a, b];
      this.bezierCurveTo(c[0] + 2 / 3 * (a - c[0]), c[1] + 2 / 3 * (b - c[1]), x + 2 / 3 * (a - x), y + 2 / 3 * (b - y), x, y);
    },
    closePath: function () { if (this.path.length) this.path.push('h'); },
    rect: function (x, y, w, h) { this.moveTo(x, y); this.lineTo(x + w, y); this.lineTo(x + w, y + h); this.lineTo(x, y + h); this.closePath(); },
    arc: function (x, y, r, from, to, back) {                       // one cubic curve for each quarter of a circle, or less
      var full = 2 * Math.PI, turn = to - from;
      if (!back && turn < 0) turn = turn % full + full;
      if (back && turn > 0) turn = turn % full - full;
      turn = Math.max(-full, Math.min(full, turn));
      var n = Math.max(1, Math.ceil(Math.abs(turn) / (Math.PI / 2) - 1e-6)), step = turn / n, k = 4 / 3 * Math.tan(step / 4) * r;
      this.lineTo(x + r * Math.cos(from), y + r * Math.sin(from));
      for (var i = 0; i < n; i++) {
        var a = from + i * step, b = a + step, ca = Math.cos(a), sa = Math.sin(a), cb = Math.cos(b), sb = Math.sin(b);
        this.bezierCurveTo(x + r * ca - k * sa, y + r * sa + k * ca, x + r * cb + k * sb, y + r * sb - k * cb, x + r * cb, y + r * sb);
      }
    },
    ellipse: function (x, y, rx, ry, turn, from, to, back) {
      var m = this.matrix;
      this.at = this.path.length ? this.at : null;
      this.translate(x, y); this.rotate(turn); this.scale(rx, ry); this.arc(0, 0, 1, from, to, back); this.matrix = m;
    },

    // ink
    fill: function (rule) {
      var s = this.fillStyle, path = this.path.join(' '), f = rule === 'evenodd' ? 'f*' : 'f';
      if (!path) return;
      if (s && s.stops) return this.shade(s, path);
      var c = colour(s);
      if (c && c[3] * this.globalAlpha > 0) out.push(alpha(c[3] * this.globalAlpha) + paint(c, 'rg') + path + ' ' + f);
    },
    shade: function (g, path) {                                     // a gradient is stripes behind a clip
      var dx = g.x1 - g.x0, dy = g.y1 - g.y0, stops = g.stops.slice().sort(function (a, b) { return a[0] - b[0]; });
      var opaque = stops.every(function (s) { return s[1][3] === 1; }), self = this;
      if (!stops.length || !(dx || dy)) return;
      out.push('q ' + path + ' W n');
      for (var i = 0; i < STRIPES; i++) {
        var t = (i + .5) / STRIPES, a = i ? i / STRIPES : -BIG, b = opaque || i === STRIPES - 1 ? BIG : (i + 1) / STRIPES, k = 0;
        while (k < stops.length - 2 && stops[k + 1][0] < t) k++;
        var p = stops[k], q = stops[Math.min(k + 1, stops.length - 1)];
        var u = q[0] > p[0] ? Math.max(0, Math.min(1, (t - p[0]) / (q[0] - p[0]))) : 1;
        var c = p[1].map(function (v, j) { return v + (q[1][j] - v) * u; });
        var corner = function (t, side) { return self.point(g.x0 + dx * t - dy * side, g.y0 + dy * t + dx * side); };
        if (c[3] * this.globalAlpha > 0)
          out.push(alpha(c[3] * this.globalAlpha) + paint(c, 'rg') + corner(a, -BIG) + ' m ' + corner(b, -BIG) + ' l ' + corner(b, BIG) + ' l ' + corner(a, BIG) + ' l h f');
      }
      out.push('Q');
    },
    pen: function () {
      var c = colour(this.strokeStyle), m = this.matrix;
      if (!c || !(this.lineWidth > 0) || !(c[3] * this.globalAlpha > 0)) return null;
      var s = Math.sqrt(Math.abs(m[0] * m[3] - m[1] * m[2]));
      return alpha(c[3] * this.globalAlpha) + paint(c, 'RG') + num(this.lineWidth * s) + ' w ' + ({round: 1, square: 2}[this.lineCap] || 0) + ' J ' +
        ({round: 1, bevel: 2}[this.lineJoin] || 0) + ' j [' + this.dash.map(function (d) { return num(d * s); }).join(' ') + '] 0 d ';
    },
    stroke: function () { var pen = this.pen(); if (pen && this.path.length) out.push(pen + this.path.join(' ') + ' S'); },
    clip: function (rule) { if (this.path.length) out.push(this.path.join(' ') + (rule === 'evenodd' ? ' W* n' : ' W n')); },
    fillRect: function (x, y, w, h) { var p = this.path; this.beginPath(); this.rect(x, y, w, h); this.fill(); this.path = p; },
    strokeRect: function (x, y, w, h) { this.beginPath(); this.rect(x, y, w, h); this.stroke(); },
    clearRect: function () {},
    setLineDash: function (d) { this.dash = d || []; },
    getLineDash: function () { return this.dash; },

    // text, by glyph number
    measureText: function (text) { return {width: width(text || '', this.font)}; },
    glyphs: function (text, x, y, mode) {
      var f = face(this.font), w = width(text, this.font), m = this.matrix, hex = '';
      if (this.textAlign === 'center') x -= w / 2; else if (this.textAlign === 'right' || this.textAlign === 'end') x -= w;
      y += f.size * ({middle: f.face.middle, top: f.face.top, hanging: f.face.top, bottom: f.face.bottom}[this.textBaseline] || 0);
      for (var ch of String(text)) {
        var g = f.face.glyph[ch.codePointAt(0)];
        if (g === undefined) { unknown['glyph ' + ch] = 1; g = 0; }
        hex += ('000' + g.toString(16)).slice(-4);
      }
      return 'BT /' + f.face.name + ' ' + num(f.size) + ' Tf ' + mode + ' Tr ' + [m[0], -m[1], -m[2], m[3]].map(num).join(' ') + ' ' +
        this.point(x, y) + ' Tm <' + hex + '> Tj ET';
    },
    fillText: function (text, x, y) {
      var c = colour(this.fillStyle), f = face(this.font);
      if (!c || text === '') return;
      var bold = f.bold ? paint(c, 'RG') + num(f.size * .03) + ' w [] 0 d ' : '';     // a thin rim in the same colour makes letters bold
      out.push(alpha(c[3] * this.globalAlpha) + paint(c, 'rg') + bold + this.glyphs(text, x, y, f.bold ? 2 : 0));
    },
    strokeText: function (text, x, y) { var pen = this.pen(); if (pen) out.push(pen + this.glyphs(text, x, y, 1)); },

    createLinearGradient: function (x0, y0, x1, y1) {
      var g = {x0: x0, y0: y0, x1: x1, y1: y1, stops: [], addColorStop: function (t, c) { g.stops.push([t, colour(c) || [0, 0, 0, 0]]); }};
      return g;
    },
    createRadialGradient: function (x0, y0) { unknown['radial gradient'] = 1; return this.createLinearGradient(x0, y0, x0 + 1, y0); },
    createPattern: function () { unknown.pattern = 1; return null; },
    drawImage: function () { unknown.image = 1; }
  };

  function Canvas(w, h) { this.width = w; this.height = h; this.style = {}; this.nodeName = 'CANVAS'; this.context = null; }
  Canvas.prototype = {
    getContext: function () { return this.context || (this.context = new Context(this)); },
    addEventListener: function () {}, removeEventListener: function () {}, setAttribute: function () {}
  };

  return {
    Context: Context,
    font: function (family, f) { fonts[family] = f; },
    start: function (h) { height = h; out = []; unknown = {}; },
    finish: function () { return JSON.stringify({operators: out.join('\n'), unknown: Object.keys(unknown)}); },
    render: function (option, w, h, theme) {
      this.start(h);
      echarts.setPlatformAPI({createCanvas: function () { return new Canvas(10, 10); },
                              measureText: function (text, css) { return {width: width(text || '', css)}; }});
      option.animation = false;
      var chart = echarts.init(new Canvas(w, h), theme || null, {renderer: 'canvas', width: w, height: h, devicePixelRatio: 1});
      try { chart.setOption(option); chart.getZr().flush(); } finally { chart.dispose(); }
      return this.finish();
    }
  };
})();
